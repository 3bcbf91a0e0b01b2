"""The page for people at `/`: plain files of this package, served as they are. What they show they ask `/v1` for."""

from importlib.resources import files
from typing import Final

from portwatch.http.messages import HTML, Request, Response
from portwatch.http.server import Handler

CONTENT_TYPES: Final = {
    ".html": HTML,
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
INDEX: Final = "index.html"


def routes() -> dict[str, Handler]:
    """Return the page at `/`, and what it is made of beside it under `/page/`. Read once: nothing here changes."""
    found = {
        item.name: Response(body=item.read_bytes(), content_type=CONTENT_TYPES[item.name[item.name.rindex(".") :]])
        for item in files("portwatch.http").joinpath("static").iterdir()
    }
    index = found.pop(INDEX)
    return {"/": _serve(index), **{f"/page/{name}": _serve(response) for name, response in found.items()}}


def _serve(response: Response) -> Handler:
    def handler(_: Request) -> Response:
        return response

    return handler
