"""Lab 1, "Attention, step by step": its texts (S1 to S6, S15). The numbers are in attention_steps.py and attention_shapes.py."""

from core.attention import MultiHeadAttention, attend, causal_mask
from core.config import ModelConfig
from core.model import Block, Embedding
from playground.i18n import N_
from playground.lessons.frame import Lab, Mistake, Panel

EMBED = Panel(
    id="embed",
    title=N_("Embed"),
    idea=N_(
        "A model cannot calculate with letters. Each token fetches its own row from a learned table, and the row of its "
        "place in the string is added to it. Both must be equally wide, or they could not be added."
    ),
    maths=r"x_i = \sqrt{d_{\text{model}}}\; E[\text{token}_i] + p_i",
    code=((Embedding.forward, "self.token(ids)", "position =", "x = x +"),),
    action=N_("Click a token in the first map, then a bar: the two numbers it is the sum of appear below."),
)
PROJECT = Panel(
    id="project",
    title=N_("Project"),
    idea=N_(
        "Each token makes three vectors of itself. With the query it asks, with the key it says what it can be found by, "
        "and the value is what it hands over when it is found. Three learned matrices make them, the same three for every token."
    ),
    maths=r"q_i = x_i W_Q + b_Q \qquad k_j = x_j W_K + b_K \qquad v_j = x_j W_V + b_V",
    code=((MultiHeadAttention.forward, "self.qkv(x)", "F.linear(x, w_q", "F.linear(memory"),),
    action=N_("Click a row of a matrix: it makes one number of the vector to its right, from all of x above it."),
)
SCORE = Panel(
    id="score",
    title=N_("Score"),
    idea=N_(
        "How well does a question fit a key? Multiply the two vectors number by number and add up. Where both are large with "
        "the same sign, the sum grows; where they contradict each other, it shrinks."
    ),
    maths=r"q_i \cdot k_j = \sum_{f=1}^{d_k} q_{i,f}\, k_{j,f}",
    code=((attend, "scores = q @"),),
    action=N_("Click a cell in the third map: its query and its key stand below, number by number."),
)
SCALE = Panel(
    id="scale",
    title=N_("Scale"),
    idea=N_(
        "The more numbers a sum has, the larger it tends to get. Every score is therefore divided by the same constant, "
        "which depends only on how long the vectors are. The order stays the same, the gaps become smaller."
    ),
    maths=r"s_{ij} = \frac{q_i \cdot k_j}{\sqrt{d_k}}",
    code=((attend, "scores = q @", "scores = scores if"), (ModelConfig, '"sqrt_d_k": self.d_k')),
    action=N_("Click two cells of the row below: the divisor is the same for both."),
)
MASK = Panel(
    id="mask",
    title=N_("Mask"),
    idea=N_(
        "Some places may not be looked at: in the decoder everything that comes later, everywhere the filler of short strings. "
        "Their scores become minus infinity, before softmax, so that nothing of them is left afterwards."
    ),
    maths=r"s'_{ij} = s_{ij} + m_{ij} \qquad m_{ij} = \begin{cases} 0 & j \text{ may be seen by } i \\ -\infty & \text{otherwise} \end{cases}",
    code=((causal_mask, "return"), (attend, "masked_fill(~seen, float")),
    action=N_("Choose Decoder self, then click a hatched cell: it lies to the right of the diagonal."),
)
SOFTMAX = Panel(
    id="softmax",
    title=N_("Softmax"),
    idea=N_(
        "Scores become shares: each is turned into a positive number, which grows steeply with the score, and divided by the "
        "sum of its row. A row now adds up to one, and a blocked cell gets exactly nothing."
    ),
    maths=r"a_{ij} = \frac{e^{\,s'_{ij}}}{\sum_{l} e^{\,s'_{il}}} \qquad \sum_j a_{ij} = 1",
    code=((attend, ".softmax(-1)", 'put(trace, "pattern"'),),
    action=N_(
        "Click a cell in the sixth map and follow its column down to the weight. What is the sum of the last row?"
    ),
)
WEIGH = Panel(
    id="weigh",
    title=N_("Weigh and add"),
    idea=N_(
        "Every token's value is multiplied by its share, and everything is added. That is all that this head tells the token: "
        "a mixture of values, mostly of those it looked at most."
    ),
    maths=r"z_i = \sum_j a_{ij}\, v_j",
    code=((attend, "return F.scaled"), (MultiHeadAttention.forward, "z = attend(", "self.out(z")),
    action=N_("Click a column of the stack: key by key, the sum on the right walks to one number of z."),
)
SHAPES = Panel(
    id="shapes",
    title=N_("Shapes 512·8·64"),
    idea=N_(
        "A layer has several heads. They are not made one by one: a single wide projection computes the vectors of all heads "
        "at once, and cutting its result into equal slices gives each head its own. Afterwards the slices are laid side by side again."
    ),
    maths=r"d_k = \frac{d_{\text{model}}}{H} \qquad \bigl[\,xW^{(1)} \mid \dots \mid xW^{(H)}\,\bigr] = x\,\bigl[\,W^{(1)} \mid \dots \mid W^{(H)}\,\bigr]",
    code=(
        (MultiHeadAttention.split, "return"),
        (MultiHeadAttention.forward, "self.qkv(x)", "z = attend(", "self.out(z"),
    ),
    action=N_(
        "Walk through the five stages, from left to right. Where is the width cut, and where is it joined again?"
    ),
)

LAB = Lab(
    id="attention",
    title=N_("Attention, step by step"),
    intro=N_(
        "One head, on your own input: every number from the letters to what the head says. The chosen cell is the same in all maps."
    ),
    panels=(EMBED, PROJECT, SCORE, SCALE, MASK, SOFTMAX, WEIGH, SHAPES),
)

DROPOUT = Mistake(
    "dropout",
    N_("Reading weights after dropout"),
    N_(
        "While training, dropout sets some weights to zero and divides the others by the share that is kept. Look for weights "
        "above 1 and rows that no longer add up to 1: that is no attention pattern. Patterns in this app are read before dropout."
    ),
)
SLICED = Mistake(
    "sliced",
    N_("Slicing x before projecting"),
    N_(
        "If x itself is cut into slices, each head sees only its own few numbers of every token. Look at the difference below: "
        "it is not rounding. And the heads have far fewer weights: with 8 heads one eighth."
    ),
)

# For each step the one line of our source that does it: where it stands, and words of it.
LINES: dict[str, tuple[object, str]] = {
    "embed": (Embedding.forward, "x = x + put"),
    "project": (MultiHeadAttention.forward, "self.qkv(x)"),
    "project_cross": (MultiHeadAttention.forward, "F.linear(x, w_q"),
    "score": (attend, "scores = q @"),
    "scale": (attend, "scores = q @"),
    "mask": (attend, "pattern = scores.masked_fill"),
    "softmax": (attend, "pattern = scores.masked_fill"),
    "dropout": (MultiHeadAttention.forward, "dropout = self.dropout if"),
    "weigh": (attend, "return F.scaled_dot_product_attention"),
    "input": (Block.forward, "self.attention(y"),
    "projected": (MultiHeadAttention.forward, "self.qkv(x)"),
    "split": (MultiHeadAttention.split, "return x.unflatten"),
    "attend": (MultiHeadAttention.forward, "z = attend("),
    "merge": (MultiHeadAttention.forward, "self.out(z.transpose"),
    "out": (MultiHeadAttention.forward, "self.out(z.transpose"),
}
