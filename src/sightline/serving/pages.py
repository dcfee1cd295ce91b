"""The page's files and the description of the API, as they lie in `page/`: nothing is fetched from elsewhere."""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sightline.serving.answers import JSON
from sightline.serving.openapi import document
from sightline.serving.problems import refuse

KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


def page_routes() -> list[Route]:
    """`/`, `/docs`, `/page/...` and `/openapi.json`."""
    folder = files("sightline.serving") / "page"
    contents = {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.name.partition(".")[2] in KINDS}
    described = document()

    def file(name: str) -> Response:
        if name not in contents:
            raise refuse("not_found", f"There is no page {name[:80]!r}.")
        kind = KINDS[name.partition(".")[2]]
        return Response(contents[name], media_type=kind, headers={"cache-control": "no-cache"})

    async def index(_request: Request) -> Response:
        return file("index.html")

    async def docs(_request: Request) -> Response:
        return file("docs.html")

    async def part(request: Request) -> Response:
        return file(request.path_params["name"])

    async def openapi(_request: Request) -> Response:
        return JSON(described)

    return [
        Route("/", index),
        Route("/docs", docs),
        Route("/page/{name}", part),
        Route("/openapi.json", openapi),
    ]
