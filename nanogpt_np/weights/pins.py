"""The published GPT-2 files: repository, revision, size and SHA-256. weights.sh has the same table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pin:
    """A published checkpoint."""

    repo: str
    revision: str
    sha256: str  # of model.safetensors
    nbytes: int | None  # of model.safetensors; None where no one has published it


PINS = {
    "gpt2": Pin(
        "openai-community/gpt2",
        "607a30d783dfa663caf39e06633721c8d4cfcd7e",
        "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
        548105171,
    ),
    "gpt2-medium": Pin(
        "openai-community/gpt2-medium",
        "6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
        "fc5a354a19255ad494f3d71549390baca1ccf61d1d822b9408971705c687c9cd",
        1519984962,
    ),
    "gpt2-large": Pin(
        "openai-community/gpt2-large",
        "32b71b12589c2f8d625668d2335a01cac3249519",
        "5f47f3e12f91cd33b662ce7e433b6150ad5512b5884a2cee961b50e9c3bbebce",
        None,
    ),
    "gpt2-xl": Pin(
        "openai-community/gpt2-xl",
        "15ea56dee5df4983c59b2538573817e1667135e2",
        "0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a",
        None,
    ),
    "distilgpt2": Pin(
        "distilbert/distilgpt2",
        "2290a62682d06624634c1f46a6ad5be0f47f38aa",
        "e1ff18884359fe8beb795a5f414feb85a6ce3d929ad019c0d958c039d2b94a1b",
        352824413,
    ),
}
