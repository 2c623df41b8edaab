"""How many response bodies may be in memory at once, over all threads."""

from __future__ import annotations

import threading


class Bodies:
    """Room for so many bodies; `place` gives each request its own claim on it."""

    def __init__(self, room: int, stop: threading.Event) -> None:
        self._room = threading.Semaphore(room)
        self._stop = stop

    def place(self) -> Bodies.Place:
        """A place for one body, not yet taken."""
        return Bodies.Place(self)

    class Place:
        """Taken when a body begins to arrive, freed when nothing of it is left in memory."""

        def __init__(self, bodies: Bodies) -> None:
            self._bodies = bodies
            self._is_taken = False

        def take(self) -> None:
            """Wait until there is room; at once when the process is to stop."""
            while not self._is_taken and not self._bodies._stop.is_set():  # noqa: SLF001
                self._is_taken = self._bodies._room.acquire(timeout=0.1)  # noqa: SLF001

        def take_if_free(self) -> bool:
            """Take it where that needs no waiting; says whether it is taken."""
            if not self._is_taken and self._bodies._room.acquire(blocking=False):  # noqa: SLF001
                self._is_taken = True
                self.take()  # has nothing to wait for; whoever watches `take` hears of it
            return self._is_taken

        def free(self) -> None:
            """Give the room to another body; harmless when there is none."""
            if self._is_taken:
                self._is_taken = False
                self._bodies._room.release()  # noqa: SLF001
