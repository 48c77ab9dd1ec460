"""The description of a server by OpenAPI 3.1."""

from typing import Any

import imagenet_jax
from imagenet_jax.deploy.server.limits import Limits

_ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}
_PREDICTIONS = {
    "type": "object",
    "required": ["task", "model", "image_size", "predictions", "errors"],
    "properties": {
        "task": {"type": "string"},
        "model": {"type": "string"},
        "image_size": {"type": "integer"},
        "predictions": {
            "type": "array",
            "description": "of each photo, in their order, what the task tells; as `launch.py "
            "predict --json` has it",
            "items": {
                "type": "object",
                "required": ["path"],
                "properties": {
                    "path": {"type": "string", "description": "the name of the file"},
                    "classes": {"type": "array", "items": {"type": "object"}},
                    "objects": {"type": "array", "items": {"type": "object"}},
                    "embedding": {
                        "type": "array",
                        "description": "a vector of length 1",
                        "items": {"type": "number"},
                    },
                    "features": {"type": "array", "items": {"type": "number"}},
                    "segmentation": {"type": "string", "description": "a PNG in base64"},
                },
            },
        },
        "errors": {
            "type": "array",
            "description": "photos that cannot be read",
            "items": {
                "type": "object",
                "properties": {"path": {"type": "string"}, "error": {"type": "string"}},
            },
        },
    },
}


def description(task: str, limits: Limits) -> dict[str, Any]:
    """What OpenAPI says of a server with a model of such a task."""
    photo = {"schema": {"type": "string", "format": "binary"}}
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    form = {"schema": {"type": "object", "properties": {"files": files}}}
    refusals = {
        "400": "no photo, none that can be read, or a parameter that is not possible",
        "408": f"the request did not come within {limits.seconds:g} s",
        "413": f"more than {limits.body} bytes or {limits.images} photos",
        "429": f"more than {limits.queue} images wait; try again later",
        "500": "something that nobody foresaw",
        "503": "the model is being compiled, or is too busy",
    }
    predict = {
        "summary": "What is in photos",
        "parameters": [
            {
                "name": "top",
                "in": "query",
                "description": "how many classes or objects to tell of a photo",
                "schema": {"type": "integer", "minimum": 1, "maximum": 1000},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                **dict.fromkeys(("image/*", "application/octet-stream"), photo),
                "multipart/form-data": form,
            },
        },
        "responses": {
            "200": _response("What was found", _PREDICTIONS),
            **{status: _response(why, _ERROR) for status, why in refusals.items()},
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": f"imagenet_jax: {task}", "version": imagenet_jax.__version__},
        "paths": {
            "/predict": {"post": predict},
            "/explain": {"post": _explain(predict)},
            "/": {"get": _get("A page that shows photos and what was found in them", "text/html")},
            "/health": {"get": _get("Whether the server lives")},
            "/ready": {"get": _get("Whether it answers (200) or not yet (503), and its model")},
            "/metrics": {"get": _get("Counters for Prometheus", "text/plain")},
            "/openapi.json": {"get": _get("This description")},
        },
    }


def _explain(predict: dict[str, Any]) -> dict[str, Any]:
    texts = {
        "method": "as of `launch.py explain`; default: that of the model",
        "class": "name or number of a class; default: what the model says",
        "box": "which box of a detector, 1 being the best",
    }
    parameters = [
        {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
        for name, text in texts.items()
    ]
    properties = {"picture": {"type": "string", "description": "a JPEG in base64"}}
    told = {"type": "object", "properties": properties}
    return {
        **predict,
        "summary": "What the answer to one photo depends on, as `launch.py explain --json` has it",
        "parameters": parameters,
        "responses": {**predict["responses"], "200": _response("What was found", told)},
    }


def _response(why: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": why, "content": {"application/json": {"schema": schema}}}


def _get(summary: str, kind: str = "application/json") -> dict[str, Any]:
    response = {"description": summary, "content": {kind: {}}}
    return {"summary": summary, "responses": {"200": response}}
