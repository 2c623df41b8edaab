"""A Superset of our own on this machine, and its API. Everything it keeps is in one folder."""

from __future__ import annotations

import io
import os
import secrets
import socket
import subprocess
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

HERE = Path(__file__).resolve().parent
BUNDLE = HERE / "bundle"
USER = "admin"
DATABASE = "databases/heatmaps.yaml"
_START_S = 180


def bundle(sqlalchemy_uri: str) -> bytes:
    """The bundle as Superset imports it, with the address of the database to read."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted(BUNDLE.rglob("*.yaml")):
            name = file.relative_to(BUNDLE).as_posix()
            text = file.read_text(encoding="utf-8")
            if name == DATABASE:
                document = yaml.safe_load(text) | {"sqlalchemy_uri": sqlalchemy_uri}
                text = yaml.safe_dump(document, sort_keys=False)
            archive.writestr(f"heatmaps/{name}", text)
    return packed.getvalue()


class Superset:
    """Its programs in the environment `bin_folder`, its metadata in `folder`."""

    def __init__(self, bin_folder: Path, folder: Path) -> None:
        self.bin, self.folder = bin_folder, folder
        self.password = secrets.token_urlsafe(16)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        self.environment = {
            "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(folder),
            "FLASK_APP": "superset",
            "SUPERSET_HOME": str(folder),
            "SUPERSET_CONFIG_PATH": str(HERE / "superset_config.py"),
            "SUPERSET_TRY_SECRET": secrets.token_urlsafe(42),
            "SUPERSET_TRY_METADATA": f"sqlite:///{folder / 'superset.db'}",
            "SCARF_ANALYTICS": "false",
        }

    def set_up(self) -> None:
        """Metadata, an administrator with a random password, and the roles."""
        who = ("--username", USER, "--firstname", "A", "--lastname", "B")
        self._run("db", "upgrade")
        self._run(
            *("fab", "create-admin", *who, "--email", "admin@example.com"),
            *("--password", self.password),
        )
        self._run("init")

    def _run(self, *arguments: str) -> None:
        log = self.folder / "set_up.log"
        with log.open("ab") as output:
            command = [str(self.bin / "superset"), *arguments]
            done = subprocess.run(
                command, env=self.environment, stdout=output, stderr=output, check=False
            )
        if done.returncode:
            raise SystemExit(f"superset {arguments[0]} failed; see {log}")

    @contextmanager
    def running(self) -> Iterator[Api]:
        """Its server on 127.0.0.1 until the end of the block, and a client that is logged in."""
        command = [str(self.bin / "gunicorn"), "-w", "1", "-k", "gthread", "--threads", "4"]
        command += ["--timeout", "120", "-b", self.url.removeprefix("http://")]
        log = (self.folder / "server.log").open("ab")
        with (
            log,
            subprocess.Popen(
                [*command, "superset.app:create_app()"],
                env=self.environment,
                stdout=log,
                stderr=log,
            ) as process,
        ):
            try:
                yield Api(self.url, self.password)
            finally:
                process.terminate()


class Api:
    """What is asked of Superset over HTTP."""

    def __init__(self, url: str, password: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=120, trust_env=False)
        self.password = password
        self._wait()
        body = {"username": USER, "password": password, "provider": "db", "refresh": False}
        answer = self.client.post("/api/v1/security/login", json=body).raise_for_status()
        self.client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            try:
                if self.client.get("/health").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if time.monotonic() > deadline:
                raise SystemExit(f"Superset does not answer within {_START_S} s")
            time.sleep(0.5)

    def import_bundle(self, sqlalchemy_uri: str, password: str = "") -> None:
        """Import the bundle; what an earlier import made is overwritten."""
        files = {"bundle": ("heatmaps.zip", bundle(sqlalchemy_uri), "application/zip")}
        passwords = {"passwords": f'{{"{DATABASE}": "{password}"}}'} if password else {}
        answer = self.client.post("/api/v1/assets/import/", files=files, data=passwords)
        if answer.status_code != 200:
            raise SystemExit(f"the import was refused: {answer.text}")

    def chart_titles(self) -> dict[int, str]:
        """Title by id."""
        answer = self.client.get("/api/v1/chart/", params={"q": "(page_size:100)"})
        found = answer.raise_for_status().json()["result"]
        return {chart["id"]: chart["slice_name"] for chart in found}

    def chart_data(self, query_context: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The rows of a chart, for what a browser would ask; read anew, not from a cache."""
        body = {**query_context, "force": True}
        answer = self.client.post("/api/v1/chart/data", json=body)
        if answer.status_code != 200:
            raise SystemExit(f"a chart has no data: {answer.text}")
        rows: list[dict[str, Any]] = answer.json()["result"][0]["data"]
        return rows
