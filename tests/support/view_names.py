"""Names that a view may have, and that a URL, a query or a column could spoil."""

from etl.fake_datadog import World

ODD_VIEWS = (
    *World().view_names,
    "/100%25",
    "/%",
    "a&b=c",
    "/semi;colon",
    "/plus+plus",
    " leading and trailing ",
    "/новая/страница",
    "/👟",
    "/e\u0301 combined",
    "/line\nbreak\ttab",
    "/quote\"'<>\\",
    "filter[view_name]",
)
