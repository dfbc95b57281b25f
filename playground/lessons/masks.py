"""Lab 4, "Masks and leaks": its texts (S12, S12b, S13). The numbers are in masks_measure.py, the drawing in masks_view.py."""

from core.attention import attend, causal_mask, padding_mask
from core.lab.measure import influence, two_flows
from core.model import Transformer
from core.train import token_loss
from playground.i18n import N_
from playground.lessons.frame import Lab, Mistake, Panel

INFINITY = Panel(
    id="infinity",
    title=N_("Minus infinity"),
    idea=N_(
        "A blocked token must get no weight at all, and the weights of the others must still add up to one. So the mask acts "
        "before softmax: it adds minus infinity to the blocked scores, and the exponential of minus infinity is zero."
    ),
    maths=r"a_{tj} = \frac{e^{\,s_{tj} + m_{tj}}}{\sum_{l} e^{\,s_{tl} + m_{tl}}} \qquad "
    r"m_{tj} = \begin{cases} 0 & t \text{ may look at } j \\ -\infty & \text{otherwise} \end{cases} \qquad e^{-\infty} = 0",
    code=((attend, "masked_fill(~seen, float", "softmax(-1)", "a fully blocked row"),),
    action=N_(
        "Put something else in the place of minus infinity, and look at the last line: who gets weight that should get none?"
    ),
)
PAINT = Panel(
    id="paint",
    title=N_("Paint the mask"),
    idea=N_(
        "The decoder's mask is a lower triangle of ones, the diagonal included: a position sees itself and what stands before "
        "it. (Many texts call it an upper triangle; the upper triangle is the part that is blocked.) The third matrix measures "
        "what that achieves: how much each token moves each prediction."
    ),
    maths=r"M_{tj} = \begin{cases} 1 & j \le t \\ 0 & j > t \end{cases} \qquad "
    r"I_{tj} = \left\lVert \frac{\partial\, \text{logit}_t}{\partial\, \text{embedding}_j} \right\rVert \qquad "
    r"M \text{ triangular} \;\Rightarrow\; I_{tj} = 0 \text{ for } j > t",
    code=((causal_mask, "return"), (influence, "autograd.grad", "norm(")),
    action=N_(
        "Open one cell above the diagonal (click, or drag to paint). Which predictions now know a token that is not written yet?"
    ),
)
LEAK = Panel(
    id="leak",
    title=N_("The leak"),
    idea=N_(
        "In training the decoder reads the right answer while it predicts it. Without the causal mask, the token to be predicted "
        "stands one place to the right, in plain sight. What a model makes of that shows only when it has to write alone."
    ),
    maths=r"\text{loss} = -\frac{1}{T}\sum_t \ln p(y_t \mid y_{<t}, x) \qquad \text{leaking:}\quad p(y_t \mid y_{<t}, \mathbf{y_t}, \dots, x) \to 1",
    code=((Transformer.decode, "mask = None", "causal_mask:", "mask = causal_mask("), token_loss),
    action=N_(
        "Compare the same model reading the answer and writing alone. Then look at one that was trained with the mask off."
    ),
)
PADDING = Panel(
    id="padding",
    title=N_("Padding"),
    idea=N_(
        "Strings of a batch differ in length, so the short ones are filled up with a padding token. It means nothing, and "
        "attention must not look at it. With the padding mask the number of fillers makes no difference; without it, it does."
    ),
    maths=r"m_{tj} = \begin{cases} 0 & \text{token } j \ne \text{PAD} \\ -\infty & \text{token } j = \text{PAD} \end{cases} "
    r"\qquad \Delta = \max_{t,\,v} \bigl| \text{logit}_{t,v}(x) - \text{logit}_{t,v}(x\,\text{PAD}\dots\text{PAD}) \bigr|",
    code=((padding_mask, "return"), (Transformer.encode, "mask ="), (Transformer.decode, "memory_mask =")),
    action=N_("Add padding behind your input and watch both sides."),
)
PARALLEL = Panel(
    id="parallel",
    title=N_("All at once"),
    idea=N_(
        "The triangle is what makes fast training possible. Because no position can see what comes later, all predictions of a "
        "target can be made in one pass, and each is the one the model would have made with only the beginning in front of it."
    ),
    maths=r"\text{row } t \text{ of } f(y_1 \dots y_T) \;=\; \text{last row of } f(y_1 \dots y_t) \qquad \text{1 pass instead of } T",
    code=(
        (two_flows, "def sequential", "model.decode(tgt[:, : t + 1]", "model(src, tgt)"),
        (Transformer.decode, "triangle ="),
    ),
    action=N_("Guess first, then measure longer targets."),
)

LAB = Lab(
    id="masks",
    title=N_("Masks and leaks"),
    intro=N_(
        "Who may look at whom: what a mask does to one row, to a whole model, and to its training when it is missing."
    ),
    panels=(INFINITY, PAINT, LEAK, PADDING, PARALLEL),
)

# The mask each of these mistakes leads to: its preset in masks_measure.py, or "empty".
PAINT_MISTAKES = (
    Mistake(
        "open",
        N_("Mask forgotten"),
        N_(
            "Every cell is open. Look for orange frames in the third matrix: each is a prediction that depends on a token that "
            "is not written yet. In training nothing warns you: the loss only gets better."
        ),
    ),
    Mistake(
        "upper",
        N_("Triangle upside down"),
        N_(
            "True and False mixed up, or rows and columns: each position sees itself and the future, and nothing before it. Look "
            "at the last row: it sees one token only, and every other prediction reads ahead."
        ),
    ),
    Mistake(
        "strict",
        N_("Diagonal left out"),
        N_(
            "A triangle without its diagonal: a position no longer sees the token it has just read, and the first one sees "
            "nothing at all. Look at row 1 of the weights, and at the diagonal of the third matrix: what is left there flows "
            "past attention, through the residual connection."
        ),
    ),
    Mistake(
        "empty",
        N_("A row fully masked"),
        N_(
            "Row 3 may look at nobody. Softmax of nothing is 0 / 0: PyTorch's softmax gives NaN, and NaN spreads through every "
            "layer and into every gradient. Here such a row gets zeros: that position takes nothing from the others."
        ),
    ),
)
LEAK_MISTAKES = (
    Mistake(
        "unmasked",
        N_("Loss near zero, nonsense output"),
        N_(
            "This small model was trained with the mask off. Look at the loss and at the tokens it gets right while it reads the "
            "answer: perfect. Then look at what it writes alone. A loss far below what the generated strings deserve is how one "
            "notices a leak."
        ),
    ),
)
