"""The ids of calls, in the alphabet that vendors take. Pure."""

import hashlib
import re

# AWS, Converse, ToolUseBlock: [a-zA-Z0-9_-]+, 64 at most; Anthropic, Messages, tool_use: the same letters.
_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def tool_use_id(key: str) -> str:
    """Return the id as Claude and the models of Bedrock take it: the same for a call and its result."""
    return key if _ID.fullmatch(key) else f"call_{hashlib.sha256(key.encode()).hexdigest()[:32]}"
