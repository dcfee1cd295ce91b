"""The OpenAPI document: what each path takes and gives, and every code that an error can have.

Written by hand, since the handlers read raw bodies. The contract tests and the fuzz test hold the server to it.
"""

from importlib.metadata import version
from typing import Any

from sightline.serving.problems import CODES

Plain = dict[str, Any]

IMAGES = "One image as the body, several as files of a form, or base64 in JSON."
TRAIL = "Architecture, classes, preprocessing, calibration, figures with intervals, provenance, parity of the export."


def document() -> Plain:
    """OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sightline",
            "version": version("sightline"),
            "description": "Image classification by the models that this server was given.",
        },
        "paths": _version1() | _version2() | _others(),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _version1() -> Plain:
    listing = _array(_ref("Model"))
    return {
        "/v1/predict": {"post": _images("Classes with their probabilities", IMAGES, _ref("Predicted"), ("label",))},
        "/v1/explain": {
            "post": _images(
                "A heat map of one image",
                "What the probability of `label`, or of the most probable class, hangs on. With `Accept: image/png` "
                "the answer is the picture alone.",
                _ref("Explained"),
                ("top_k", "probabilities"),
                picture=True,
            )
        },
        "/v1/models": {"get": _operation("The models", _object({"models": listing}))},
        "/v1/models/{model}": {"get": _operation("A model's whole trail", _ref("Card"), TRAIL, path=True)},
        "/v1/models/{model}/reload": {
            "post": _operation(
                "Open the folder anew", _ref("Reloaded"), "No request is lost.", path=True, refused=(403, 409)
            )
        },
    }


def _version2() -> Plain:
    empty: Plain = {"type": "object"}
    infer = _operation("Infer", _ref("InferAnswer"), "Open Inference Protocol, version 2.", path=True, refused=_POSTED)
    infer["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": _ref("InferRequest")}, "application/octet-stream": {}},
    }
    infer["responses"]["200"]["content"]["application/octet-stream"] = {}
    of_model: dict[str, Plain] = {
        "": {"get": _operation("A model's inputs and outputs", empty, path=True)},
        "/ready": {"get": _operation("Whether a model answers", empty, path=True)},
        "/infer": {"post": infer},
    }
    version = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "/v2": {"get": _operation("The server", empty)},
        "/v2/health/live": {"get": _operation("Whether the process answers", empty)},
        "/v2/health/ready": {"get": _operation("Whether every model answers", empty, refused=(503,))},
        **{f"/v2/models/{{model}}{rest}": verbs for rest, verbs in of_model.items()},
        **{
            f"/v2/models/{{model}}/versions/{{version}}{rest}": verbs | {"parameters": [version]}
            for rest, verbs in of_model.items()
        },
    }


def _others() -> Plain:
    figures = _operation("Figures for Prometheus", {"type": "string"})
    figures["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    return {"/metrics": {"get": figures}, "/openapi.json": {"get": _operation("This document", {"type": "object"})}}


_POSTED = (400, 408, 413, 415, 422, 429, 500, 503, 504)
"""What can go wrong with a body."""


def _images(title: str, text: str, answer: Plain, without: tuple[str, ...], *, picture: bool = False) -> Plain:
    """An operation that takes images."""
    operation = _operation(title, answer, text, refused=(*_POSTED, 404))
    operation["parameters"] = [
        {"name": name, "in": "query", "schema": schema, "description": told}
        for name, (schema, told) in _OPTIONS.items()
        if name not in without
    ]
    fields = {name: schema for name, (schema, _) in _OPTIONS.items() if name not in without}
    files: Plain = {"type": "array", "items": {"type": "string", "format": "binary"}}
    form = {"type": "object", "properties": {"images": files} | fields, "required": ["images"]}
    coded = _array({"anyOf": [_ref("Coded"), {"type": "string", "format": "byte"}]}) | {"minItems": 1}
    operation["requestBody"] = {
        "required": True,
        "content": {
            "image/jpeg": {},
            "image/png": {},
            "application/octet-stream": {},
            "multipart/form-data": {"schema": form},
            "application/json": {"schema": _object({"images": coded}, **fields)},
        },
    }
    if picture:
        operation["responses"]["200"]["content"]["image/png"] = {}
    return operation


def _operation(
    title: str, answer: Plain, text: str = "", *, path: bool = False, refused: tuple[int, ...] = ()
) -> Plain:
    codes = sorted({401, 500, *refused, *((404,) if path else ())})
    responses: Plain = {"200": {"description": "Done", "content": {"application/json": {"schema": answer}}}}
    for code in codes:
        meanings = [f"`{name}`: {meaning}" for name, (status, meaning) in CODES.items() if status == code]
        content = {"application/json": {"schema": _ref("Failure")}}
        responses[str(code)] = {"description": " ".join(meanings), "content": content}
    operation: Plain = {"summary": title, "description": text, "responses": responses}
    if path:
        operation["parameters"] = [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]
    return operation


_OPTIONS: dict[str, tuple[Plain, str]] = {
    "model": ({"type": "string"}, "The model's name; the first one if left out."),
    "top_k": (
        {"type": "integer", "minimum": 1, "maximum": 999_999_999},
        "How many classes to give; 5, or those above their thresholds.",
    ),
    "probabilities": ({"type": "boolean"}, "Whether to give every class's probability too."),
    "label": ({"type": "string"}, "The class to explain; the most probable one if left out."),
    "name": ({"type": "string"}, "What the only image of a request is called in the answer."),
}


def _schemas() -> Plain:
    text, number = {"type": "string"}, {"type": "number"}
    guess = _object({"label": text, "probability": number})
    problem = _object({"code": {"type": "string", "enum": sorted(CODES)}, "message": text}, file=text, request_id=text)
    image = _object({"name": text}, predictions=_array(guess), error=problem)
    image["properties"]["probabilities"] = {"type": "object", "additionalProperties": number}
    names = ("name", "fingerprint", "architecture", "task", "format", "engine", "loaded")
    model = _object(dict.fromkeys(names, text) | {"num_classes": {"type": "integer"}})
    tensor = _object({"name": text, "datatype": text, "shape": _array({"type": "integer", "minimum": 1})})
    tensor["properties"] |= {"data": {"type": "array"}, "parameters": {"type": "object"}}
    window = _object(dict.fromkeys(("left", "top", "width", "height"), number))
    told = dict.fromkeys(("model", "fingerprint", "name", "label", "method", "overlay"), text)
    explained = _object({**told, "probability": number, "grid": _array(_array(number)), "window": window})
    return {
        "Coded": _object({"data": text | {"format": "byte"}}, name=text) | {"additionalProperties": False},
        "Predicted": _object({"model": text, "fingerprint": text, "images": _array(image)}),
        "Explained": explained,
        "Model": model,
        "Card": {"allOf": [_ref("Model"), {"type": "object"}]},
        "Reloaded": _object(dict.fromkeys(("model", "before", "fingerprint", "loaded"), text)),
        "InferRequest": _object({"inputs": _array(tensor) | {"minItems": 1, "maxItems": 1}}, id=text),
        "InferAnswer": _object({"model_name": text, "outputs": _array(tensor)}),
        "Failure": _object({"error": {"anyOf": [problem, text]}}),
    }


def _object(required: Plain, **optional: Plain) -> Plain:
    return {"type": "object", "properties": required | optional, "required": sorted(required)}


def _array(items: Plain) -> Plain:
    return {"type": "array", "items": items}


def _ref(name: str) -> Plain:
    return {"$ref": f"#/components/schemas/{name}"}
