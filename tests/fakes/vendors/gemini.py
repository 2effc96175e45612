"""Google's Gemini API, generateContent."""

import re
from collections.abc import Mapping
from typing import Any

from tests.fakes import schema_rules
from tests.fakes.vendors import Asked, Refusal, Rule, model_of, nodes_of

_VERSION = re.compile(r"gemini-(\d+)(?:\.(\d+))?")


def refuse(message: str, status: str = "INVALID_ARGUMENT", code: int = 400) -> Refusal:
    """Return a refusal in the Gemini API's shape."""
    return Refusal(code, {"error": {"code": code, "message": message, "status": status}})


def version_of(asked: Asked) -> tuple[int, int]:
    """Return the model's version; (0, 0) where the id does not say."""
    found = _VERSION.search(model_of(asked))
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def _config(asked: Asked) -> Mapping[str, Any]:
    config: Mapping[str, Any] = asked.body.get("generationConfig") or {}
    return config


def penalties(asked: Asked) -> Refusal | None:
    """Refuse penalties: google-gemini/cookbook#1290, PublicAffairs/openai-gemini#63, Ikalus1988/MisakaNet#1473."""
    config = _config(asked)
    if version_of(asked) < (2, 5) or not (config.get("presencePenalty") or config.get("frequencyPenalty")):
        return None
    return refuse(f"Penalty is not enabled for models/{model_of(asked)}")


def logprobs(asked: Asked) -> Refusal | None:
    """Refuse log probabilities: langchain-ai/langchain-google#1266, GoogleCloudPlatform/generative-ai#2947."""
    if version_of(asked) < (2, 5) or not _config(asked).get("responseLogprobs"):
        return None
    return refuse(f"Logprobs is not enabled for models/{model_of(asked)}")


_BUDGETS = {"pro": (128, 32768), "flash-lite": (512, 24576), "flash": (1, 24576)}


def thinking_budget(asked: Asked) -> Refusal | None:
    """Refuse a budget outside the model's: Gemini API page "Thinking", vercel/ai#8027, RooCodeInc/Roo-Code#4399."""
    budget = _config(asked).get("thinkingConfig", {}).get("thinkingBudget")
    if budget in (None, -1) or version_of(asked) < (2, 5):
        return None
    least, most = next((b for name, b in _BUDGETS.items() if name in model_of(asked)), (0, 32768))
    if budget == 0 and "pro" in model_of(asked):
        return refuse("Budget 0 is invalid. This model only works in thinking mode.")
    if budget and not least <= budget <= most:
        return refuse(f"The thinking budget ({budget}) is invalid. Please choose a value between {least} and {most}.")
    return None


def thinking_level(asked: Asked) -> Refusal | None:
    """Refuse levels that the model does not have: RooCodeInc/Roo-Code#10700 (2.5), fishjar/kiss-translator#1048 (3.7),
    BerriAI/litellm-docs#1505 (3.7 and 3.8 Flash), Gemini API page "Thinking" (Pro), sterlp/eclipse-peon-ai#115 (both).
    """
    given = _config(asked).get("thinkingConfig", {})
    if "thinkingLevel" not in given:
        return None
    if version_of(asked) < (3, 0):
        return refuse("Thinking level is not supported for this model.")
    if "thinkingBudget" in given:
        return refuse("You can only set only one of thinking budget and thinking level.")
    level, known = str(given["thinkingLevel"]).upper(), _levels(model_of(asked), version_of(asked))
    return None if level in known else refuse(f"Thinking level {level} is not supported for this model.")


def _levels(model: str, version: tuple[int, int]) -> tuple[str, ...]:
    if "pro" in model:
        return ("LOW", "HIGH") if version == (3, 0) else ("LOW", "MEDIUM", "HIGH")
    if version >= (3, 7) and "lite" not in model:
        return ("LOW", "MEDIUM", "HIGH")
    return ("MINIMAL", "LOW", "MEDIUM", "HIGH")


def no_thinking(asked: Asked) -> Refusal | None:
    """Refuse any thinking config of a model that does not think: googleapis/js-genai#681 (gemini-2.0-flash)."""
    if _config(asked).get("thinkingConfig") and (1, 0) <= version_of(asked) < (2, 5):
        return refuse("Unable to submit request because thinking is not supported by this model.")
    return None


def tools_with_json(asked: Asked) -> Refusal | None:
    """Refuse functions beside JSON output before Gemini 3: googleapis/python-genai#867, symfony/ai#1777."""
    json_wanted = _config(asked).get("responseMimeType") == "application/json"
    functions = any("functionDeclarations" in tool for tool in asked.body.get("tools") or ())
    if not (json_wanted and functions) or not (1, 0) <= version_of(asked) < (3, 0):
        return None
    return refuse("Function calling with a response mime type: 'application/json' is unsupported")


def too_many_tokens(asked: Asked) -> Refusal | None:
    """Refuse more tokens than the model's highest output: the model's `outputTokenLimit`, iBUHub/AIStudioToAPI#257."""
    most = 65536 if version_of(asked) >= (2, 5) else 8192
    given = _config(asked).get("maxOutputTokens", 0)
    if not version_of(asked) >= (1, 0) or given <= most:
        return None
    return refuse(
        f"Unable to submit request because it has a maxOutputTokens value of {given} but the supported range is "
        f"from 1 (inclusive) to {most + 1} (exclusive). Update the value and try again."
    )


def candidates(asked: Asked) -> Refusal | None:
    """Refuse more than eight candidates: Gemini API reference, `candidateCount`."""
    if _config(asked).get("candidateCount", 1) <= 8:
        return None
    return refuse("The candidateCount must be between 1 and 8.")


def too_many_stops(asked: Asked) -> Refusal | None:
    """Refuse more than five stop sequences: Gemini API reference, `stopSequences`."""
    if len(_config(asked).get("stopSequences") or ()) <= 5:
        return None
    return refuse("Unable to submit request because it has more than 5 stop sequences.")


def function_name(asked: Asked) -> Refusal | None:
    """Refuse a function's name that is no identifier: Gemini API reference, `FunctionDeclaration.name`."""
    for tool in asked.body.get("tools") or ():
        for at, function in enumerate(tool.get("functionDeclarations", ())):
            if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}", function["name"]):
                return refuse(
                    f"* GenerateContentRequest.tools[0].function_declarations[{at}].name: Invalid function name. Must "
                    "start with a letter or an underscore. Must be alphameric (a-z, A-Z, 0-9), underscores (_), dots "
                    "(.), colons (:), or dashes (-), with a maximum length of 128."
                )
    return None


def function_response(asked: Asked) -> Refusal | None:
    """Refuse a result that is no object, or holds a `$ref`: NousResearch/hermes-agent#93014, mlflow/mlflow#25868."""
    parts = [part for content in asked.body.get("contents", ()) for part in content["parts"]]
    results = [part["functionResponse"]["response"] for part in parts if "functionResponse" in part]
    for result in results:
        if not isinstance(result, dict):
            return refuse("Invalid value at 'response' (type.googleapis.com/google.protobuf.Struct)")
        if any("$ref" in node for node in nodes_of(result)):
            return refuse(
                "The referenced name in function_response.response does not match to a display_name "
                "in the function_response.parts."
            )
    return None


def schemas(asked: Asked) -> Refusal | None:
    """Refuse keywords outside Gemini's subset: Gemini API reference, `responseJsonSchema`; su-kaka/gcli2api#374."""
    wanted = _config(asked).get("responseJsonSchema")
    functions = [one for tool in asked.body.get("tools") or () for one in tool.get("functionDeclarations", ())]
    given = [wanted, *(function.get("parametersJsonSchema") for function in functions)]
    why = next((why for schema in given if schema and (why := schema_rules.gemini(schema))), None)
    return None if why is None else refuse(f"Invalid JSON schema at {why}")


def file_of_others(asked: Asked) -> Refusal | None:
    """Refuse a file that the key's project does not have, with a 403: googleapis/python-genai#1218."""
    parts = [part for content in asked.body.get("contents", ()) for part in content["parts"]]
    for part in parts:
        uri = (part.get("fileData") or {}).get("fileUri", "")
        if "/files/" in uri:
            name = uri.rpartition("/")[2]
            message = f"You do not have permission to access the File {name} or it may not exist."
            return refuse(message, "PERMISSION_DENIED", 403)
    return None


def model_turn_last(asked: Asked) -> Refusal | None:
    """Refuse a model's turn at the end: danny-avila/agents#323 (a table of models), opencode#47034, Zoo-Code#1052.

    From 3.6 on, and by 3.5 Flash-Lite; not one that ends with the answer of a function.
    """
    contents = asked.body.get("contents") or [{}]
    if contents[-1].get("role") != "model" or "functionResponse" in (contents[-1].get("parts") or [{}])[-1]:
        return None
    if version_of(asked) >= (3, 6) or "3.5-flash-lite" in model_of(asked):
        return refuse("Requests ending with a model turn are not supported by this model.")
    return None


_MEDIA = re.compile(r"image/(?:png|jpeg|webp|heic|heif)|application/pdf|text/plain")


def media_type(asked: Asked) -> Refusal | None:
    """Refuse other media than images, PDF and plain text: googleapis/python-genai#829 (a .docx).

    All other texts are refused too, as epam/ai-dial-adapter-vertexai#148 reports.
    """
    for part in [part for content in asked.body.get("contents", ()) for part in content["parts"]]:
        kind = part.get("inlineData", {}).get("mimeType", "text/plain")
        if not _MEDIA.fullmatch(kind):
            return refuse(f"Unsupported MIME type: {kind}")
    return None


RULES: tuple[Rule, ...] = (
    penalties,
    logprobs,
    thinking_budget,
    thinking_level,
    no_thinking,
    tools_with_json,
    too_many_tokens,
    candidates,
    too_many_stops,
    function_name,
    function_response,
    schemas,
    file_of_others,
    media_type,
    model_turn_last,
)
