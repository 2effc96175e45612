"""DeepSeek's chat completions, a server in Rust whose parser names what it can't read."""

from tests.fakes.vendors import Asked, Refusal, Rule


def refuse(message: str, status: int = 400) -> Refusal:
    """Return a refusal in DeepSeek's shape."""
    code = "invalid_request_error"
    return Refusal(status, {"error": {"message": message, "type": code, "param": None, "code": code}})


def _unreadable(place: str, word: str, known: str) -> Refusal:
    return refuse(
        f"Failed to deserialize the JSON body into the target type: {place}: unknown variant `{word}`, "
        f"expected {known}",
        422,
    )


def developer(asked: Asked) -> Refusal | None:
    """Refuse the role `developer`: diegosouzapw/OmniRoute#2281."""
    for at, message in enumerate(asked.body.get("messages", ())):
        if message["role"] == "developer":
            known = "one of `system`, `user`, `assistant`, `tool`"
            return _unreadable(f"messages[{at}].role", "developer", known)
    return None


def image(asked: Asked) -> Refusal | None:
    """Refuse images: DayuanJiang/next-ai-draw-io#326."""
    for at, message in enumerate(asked.body.get("messages", ())):
        for part in message["content"] if isinstance(message.get("content"), list) else ():
            if part.get("type") == "image_url":
                return _unreadable(f"messages[{at}]", "image_url", "`text`")
    return None


def json_schema(asked: Asked) -> Refusal | None:
    """Refuse a schema: llm-exe/llm-exe#662, ItzCrazyKns/Vane#969, dzhng/deep-research#22."""
    if (asked.body.get("response_format") or {}).get("type") == "json_schema":
        return refuse("This response_format type is unavailable now")
    return None


def json_unsaid(asked: Asked) -> Refusal | None:
    """Refuse JSON mode where no message says JSON: browserbase/stagehand#1204."""
    wanted = (asked.body.get("response_format") or {}).get("type")
    if wanted != "json_object" or "json" in str(asked.body["messages"]).lower():
        return None
    return refuse("Prompt must contain the word 'json' in some form to use 'response_format' of type 'json_object'.")


RULES: tuple[Rule, ...] = (developer, image, json_schema, json_unsaid)
