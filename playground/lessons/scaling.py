"""Lab 2, why divide by √d_k: texts and computations."""

from core.attention import attend
from core.config import ModelConfig
from playground.i18n import N_
from playground.lessons.frame import Lab, Panel

LAB = Lab(
    "scaling",
    N_("Why divide by √d_k"),
    N_(
        "A query meets a key in a dot product. The wider the vectors, the larger the product: here you see why that matters."
    ),
    (
        Panel(
            "random",
            N_("Wider vectors, larger scores"),
            N_("A dot product adds up one product per feature."),
            r"q \cdot k = \sum_{i=1}^{d_k} q_i k_i",
            ((attend, "scale"), ModelConfig.score_scale),
            N_("Move the slider to d_k 1024."),
        ),
        Panel(
            "softmax",
            N_("Softmax saturates"),
            N_("Softmax turns scores into shares."),
            r"a_j = \frac{e^{s_j}}{\sum_m e^{s_m}}",
            ((attend, "softmax"),),
            N_("Switch the scaling off."),
        ),
    ),
)
