"""The model: what it is, whether it is complete, and whether the hub grants access to it.

Sources of the texts: transformers 5 (utils/hub.py, dynamic_module_utils.py), huggingface_hub 1, safetensors, and
vLLM 0.32 (model_executor/models/registry.py, model_loader/*, transformers_utils/*).
"""

from __future__ import annotations

import re

from haqa_contract.engine_log.lines import EngineLog
from haqa_contract.engine_log.rule import Rule, excerpt, rule
from haqa_contract.failures import FailureReason

_LOAD = FailureReason.ENGINE_LOAD_FAILED
_FETCH = FailureReason.MODEL_FETCH


def _model(log: EngineLog) -> str:
    return log.setting("model") or "the model"


def _gated(match: re.Match[str], log: EngineLog) -> str:
    return (
        f"the model {log.setting('model') or ''} is gated or private and the hub refused it; accept its licence there "
        "and name a token (model.tokenSecretRef)"
    )


def _not_on_hub(match: re.Match[str], log: EngineLog) -> str:
    return (
        f"the model {log.setting('model') or ''} was found neither as a folder nor on the hub "
        f"({match[0].strip()[:200]}); check model.uri, and HF_HUB_OFFLINE and the network if it is to be fetched"
    )


def _missing_tokenizer(match: re.Match[str], log: EngineLog) -> str:
    where = log.setting("tokenizer") or log.setting("model") or "the model's folder"
    return (
        f"there is no usable tokenizer in {where}; copy tokenizer.json and tokenizer_config.json of the original model "
        "there"
    )


def _damaged(match: re.Match[str], log: EngineLog) -> str:
    what = excerpt(match["what"] or match[0], 200)
    return (
        f"a weight file of {_model(log)} is damaged or cut short ({what}); fetch the model again or remove the artifact"
    )


def _missing_weights(match: re.Match[str], log: EngineLog) -> str:
    where = match["path"] or _model(log)
    return f"{where} holds no weights (*.safetensors); the copy is incomplete: fetch the model again"


def _other_tensors(match: re.Match[str], log: EngineLog) -> str:
    what = excerpt(match["tensor"] or match["what"] or match["shape"] or match[0], 240)
    return (
        f"the checkpoint of {_model(log)} does not have the tensors that vLLM expects of it ({what}); it is "
        "incomplete, "
        "or this vLLM cannot load the model in this scheme: leave the scheme out, or use a newer engine image"
    )


RULES: tuple[Rule, ...] = (
    rule(
        r"Model architectures \[(?P<names>[^\]]*)\] (?:are not supported for now|failed to be inspected)",
        _LOAD,
        "vLLM does not support the model's architecture {names}; use a vLLM version that does, or another model",
    ),
    rule(
        r"Model architecture '(?P<name>[^']+)' is not supported by ROCm",
        _LOAD,
        "vLLM does not support the model's architecture {name} on AMD GPUs; use another model or node type",
    ),
    rule(
        r"model type `(?P<type>[^`]+)` but Transformers does not recognize this architecture",
        _LOAD,
        "the model's type {type} is unknown to this vLLM and its transformers; use a newer engine image, or another "
        "model",
    ),
    rule(
        r"contains custom code which must be executed|requires you to execute (?:the \w+ file|custom code)"
        r"|Please pass the argument `trust_remote_code=True`|Failed to load the (?:model config|tokenizer)\. If the",
        _LOAD,
        "the model brings Python code of its own, which is not run by default; read that code, then set "
        "model.trustRemoteCode: true",
    ),
    rule(
        r"You are trying to access a gated repo|GatedRepoError|is a gated repository|Cannot access gated repo"
        r"|401 Client Error|403 Client Error|403 Forbidden|Invalid (?:username or password"
        r"|credentials in Authorization)",
        _FETCH,
        _gated,
    ),
    rule(
        r"^(?P<what>(?:requests|urllib3|httpx|httpcore|aiohttp)\.[\w.]*(?:Timeout|SSLError|Connect\w*|MaxRetryError"
        r"|ReadError|ProtocolError|ProxyError|ChunkedEncodingError|IncompleteRead)\b[^\n]*"
        r"|[^\n]*CAS service error[^\n]*|[^\n]*\b5\d\d Server Error[^\n]*|[^\n]*Consistency check failed[^\n]*)",
        _FETCH,
        lambda match, log: (
            f"the model's files could not be fetched from the hub ({excerpt(match['what'])}); check the network, the "
            "proxy and the CA certificates, try again later, or put the model on a volume"
        ),
    ),
    rule(
        r"Failed to apply (?P<processor>\w+) on data=",
        _LOAD,
        "the model's processor {processor} does not work with this vLLM and its transformers; use another engine "
        "image, or serve text alone (limit-mm-per-prompt)",
    ),
    rule(
        r"(?P<what>GGUF model with architecture \S+ is not supported)",
        _LOAD,
        "{what} by this vLLM and its transformers; name the original model, not its GGUF file",
    ),
    rule(
        r"(?P<what>Could not (?:send|receive) runai_re\w+[^\n]*)",
        _FETCH,
        "the model's files cannot be streamed from their storage ({what}); check model.uri, the credentials and the "
        "endpoint, or take load-format out",
    ),
    rule(
        r"429 (?:Client Error|Too Many Requests)[^\n]*",
        _FETCH,
        "the hub refuses more requests for now (429); name a token (model.tokenSecretRef), or try again later",
    ),
    rule(
        r"Couldn't instantiate the backend tokenizer[^\n]*|Can't load tokenizer for[^\n]*|Unable to load "
        r"vocabulary[^\n]*|does not appear to have a file named tokenizer[^\n]*|Error no file named tokenizer[^\n]*"
        r"|Tokenizer class \S+ does not exist or is not currently imported|Converting from (?:Tiktoken"
        r"|SentencePiece) failed"
        r"|data did not match any variant of untagged enum ModelWrapper",
        _LOAD,
        _missing_tokenizer,
    ),
    rule(
        r"Cannot find any (?:safetensors )?model weights with `(?P<path>[^`]+)`|does not appear to have a file named "
        r"(?:pytorch_model|model)",
        _LOAD,
        _missing_weights,
    ),
    rule(
        r"Weight files referenced in index but missing: (?P<files>[^\n]+)",
        _LOAD,
        lambda match, log: (
            f"{_model(log)} lacks weight files that its index names ({excerpt(match['files'], 200)}); the copy is "
            "incomplete: fetch the model again"
        ),
    ),
    rule(
        r"SafetensorError: (?:Error while deserializing header: )?(?P<what>[^\n]+)"
        r"|PytorchStreamReader failed reading zip archive[^\n]*|^(?:_pickle\.)?UnpicklingError[^\n]*",
        _LOAD,
        _damaged,
    ),
    rule(
        r"^KeyError: '(?P<tensor>[\w.]*\.(?:weight|bias|qweight|g_idx|w13_\w+|w2_\w+|\w*scale\w*|absmax)[\w.]*)'"
        r"|Following weights were not initialized from checkpoint: (?P<what>[^\n]+)"
        r"|There is no module or parameter named '[^']+' in \S+[^\n]*"
        r"|^AssertionError(?:: (?P<shape>[^\n]+))?\n +at \S+ in (?:\w*weight_loader\w*|load_\w*weights?)$",
        _LOAD,
        _other_tensors,
    ),
    rule(
        r"(?:Repo id must be in the form[^\n]*: |Invalid repository ID or local directory specified: "
        r")'(?P<path>/[^'\n]*)'",
        _LOAD,
        "there is no model in {path}: the folder is missing or has no config.json; check model.uri and the mounts",
    ),
    rule(
        r"Repo id must be in the form[^\n]*|is not a valid model identifier[^\n]*|is not a local folder and is "
        r"not[^\n]*|Invalid repository ID or local directory specified[^\n]*|(?:Repository|Revision|Entry) Not "
        r"Found[^\n]*|RepositoryNotFoundError|404 Client Error[^\n]*|outgoing traffic has been disabled"
        r"|[Cc]ouldn't connect to '[^']*' to load (?:the files|this file)|OfflineModeIsEnabled[^\n]*"
        r"|There was a specific connection error when trying to load[^\n]*",
        _FETCH,
        _not_on_hub,
    ),
)
