"""How fast a configuration could be: the time that memory and arithmetic need at their peak rates.

A step of decoding reads weights once and the KV cache of every running sequence, and multiplies each weight with one
token of each sequence. It is never faster than that (Williams et al., "Roofline", 2009): `bounds` relies on it, `prior`
uses it to say which configuration to try first.
"""

from __future__ import annotations

from dataclasses import dataclass

from haqa_contract import Scheme
from haqa_operator.hardware.accelerators import Rates
from haqa_operator.search.cases import Case
from haqa_operator.search.requirements import product_bits


@dataclass(frozen=True)
class Roofline:
    """One replica under one configuration, at the peak of its data sheet.

    Attributes:
        weight_bytes: Weights that a step reads for one sequence; of a mixture's experts the chosen ones.
        all_weight_bytes: What it reads if its sequences choose all experts between them.
        cache_bytes: KV cache that a step reads for one sequence, its prompt's at least.
        flops_per_token: Operations for one token (a multiplication and an addition are two).
        bandwidth: Bytes a second, all accelerators together.
        flops: Operations a second, all accelerators together, in the type that the scheme computes in.
    """

    weight_bytes: float
    all_weight_bytes: float
    cache_bytes: float
    flops_per_token: float
    bandwidth: float
    flops: float

    def least_step_s(self, sequences: float) -> float:
        """A decoding step cannot be shorter, even if all sequences choose the same experts; seconds."""
        return self._step_s(self.weight_bytes, sequences)

    def usual_step_s(self, sequences: float) -> float:
        """A decoding step whose sequences choose different experts; seconds. Equal to the least for dense models."""
        return self._step_s(min(self.all_weight_bytes, self.weight_bytes * sequences), sequences)

    def prompt_s(self, tokens: int) -> float:
        """Arithmetic of one prompt; seconds."""
        return tokens * self.flops_per_token / self.flops

    def _step_s(self, weight_bytes: float, sequences: float) -> float:
        reading_s = (weight_bytes + self.cache_bytes * sequences) / self.bandwidth
        return max(reading_s, sequences * self.flops_per_token / self.flops)


def roofline_of(case: Case) -> Roofline | None:
    """The roofline of a case, or None where the model or the device's rates are not known."""
    accelerator, model = case.accelerator, case.model
    rates = accelerator.rates
    if model is None or not model.is_known or rates is None or not rates.bf16 or not accelerator.bandwidth_gb_s:
        return None
    compute_bytes = model.compute_bytes(case.configuration)
    active = model.configured_weight_bytes(case.configuration, active=True)
    routed = model.routed_bytes(case.configuration)
    return Roofline(
        weight_bytes=active,
        all_weight_bytes=active + routed * (1 - model.routed_share),
        cache_bytes=model.kv_bytes(case.workload.input_tokens, case.kv_cache_dtype, compute_bytes),
        flops_per_token=2.0 * model.active_matrix_parameters,
        bandwidth=accelerator.bandwidth_gb_s * 1e9 * accelerator.count,
        flops=_peak_teraops(rates, rates.bf16, case) * 1e12 * accelerator.count,
    )


def _peak_teraops(rates: Rates, sixteen_bit: float, case: Case) -> float:
    """Peak rate of matrix products under the scheme; BF16's where the device has none of its own for it."""
    scheme = case.configuration.scheme
    eight_bit = rates.int8 if scheme in (Scheme.W8A8_INT8, Scheme.W4A8) else rates.fp8
    own = {8: eight_bit, 4: rates.fp4}.get(product_bits(case.accelerator, scheme, case.engine_version))
    return own or sixteen_bit
