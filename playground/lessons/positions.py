"""Lab 5, "Positions": its texts (S14). The numbers are in positions_measure.py, the drawing in positions_view.py."""

from core.lab.experiments import at_length
from core.lab.measure import length_curve
from core.lab.positions import bit_flips, neighbour_distances, rotation, wishes
from core.model import Block, Embedding
from core.positions import PositionalEncoding, table, wavenumbers
from playground.i18n import N_
from playground.lessons.frame import Lab, Panel

LADDER = Panel(
    id="ladder",
    title=N_("A ladder of encodings"),
    idea=N_(
        "Attention adds up what it finds and does not care where it found it: without help, “abc” and “cab” are the same to it. "
        "So each position gets a vector of its own, as wide as the embedding, and the two are added. Which vector? Each rung "
        "below mends a fault of the one before."
    ),
    maths=r"PE^{\text{int}}_{t,i} = t \qquad PE^{[0,1]}_{t,i} = \tfrac{t}{T-1} \qquad PE^{\text{bin}}_{t,i} = "
    r"\left\lfloor \tfrac{t}{2^i} \right\rfloor \bmod 2 \qquad PE^{\sin}_{t,i} = \sin \tfrac{t}{10000^{i/d}} \qquad "
    r"PE_{t,2i} = \sin \tfrac{t}{10000^{2i/d}},\; PE_{t,2i+1} = \cos \tfrac{t}{10000^{2i/d}}",
    code=(
        (
            table,
            "t = torch.arange",
            "t.expand(",
            "t / max(",
            "bits = ",
            ">> bits",
            "torch.sin(",
            "angle =",
            "angle.sin()",
        ),
        (wavenumbers, "torch.exp("),
        (Embedding.forward, "self.token(ids)", "x = x +"),
    ),
    action=N_(
        "Climb the ladder from integer to sine and cosine, one rung after the other. Point at cells to read them."
    ),
)
NORM = Panel(
    id="norm",
    title=N_("Through LayerNorm"),
    idea=N_(
        "The plainest idea: add the number of the position to every feature of the token's vector. But whatever reads a token "
        "looks at it through LayerNorm, which first subtracts the mean of the features. See what becomes of the number there, and "
        "what becomes of it when it is added along one direction only."
    ),
    maths=r"\mathrm{LN}(x) = \frac{x - \mu(x)}{\sqrt{\sigma^2(x) + \varepsilon}} \odot \gamma + \beta \qquad "
    r"\mu(x + t\mathbf{1}) = \mu(x) + t,\;\; \sigma(x + t\mathbf{1}) = \sigma(x) \;\Rightarrow\; "
    r"\mathrm{LN}(x + t\mathbf{1}) = \mathrm{LN}(x)",
    code=(
        (PositionalEncoding.forward, "self.direction"),
        (Embedding.forward, "x = x +"),
        (Block.residual, "f(norm(x))", "norm(x +"),
    ),
    action=N_(
        "Drag the position up and watch the two lower rows. Then add the same number along one direction. Can a model learn "
        "from either? Say so under “In training”."
    ),
)
UNIT = Panel(
    id="unit",
    title=N_("[0, 1]: a step that shrinks"),
    idea=N_(
        "Dividing by the length keeps every position between 0 and 1. The price: how far a token is from its neighbour now "
        "depends on how long the sequence is. “The token before me” is half a unit away in one string and a tenth in another."
    ),
    maths=r"PE_t = \frac{t}{T-1} \qquad PE_{t+1} - PE_t = \frac{1}{T-1} \qquad T = 3:\; 0.5 \quad T = 10:\; 0.11",
    code=((PositionalEncoding.forward, 'self.kind == "unit"', "last.clamp"), (table, "t / max(")),
    action=N_("Change one of the two lengths and compare the step between the same two tokens."),
)
BINARY = Panel(
    id="binary",
    title=N_("Binary: it jumps"),
    idea=N_(
        "Written in binary, every position is different, and no feature is ever larger than 1. But counting on by one sometimes "
        "flips a single bit and sometimes all of them: two neighbours can be further apart than positions that have nothing to do "
        "with each other."
    ),
    maths=r"\lVert PE_{t+1} - PE_t \rVert = \sqrt{\text{number of bits that flip}} \qquad 3 = 011_2 \to 4 = 100_2:\; \sqrt{3}",
    code=((table, "bits = ", ">> bits"), bit_flips, neighbour_distances),
    action=N_("Click the step at which the most bits flip."),
)
SINE = Panel(
    id="sine",
    title=N_("One wave, many waves"),
    idea=N_(
        "A sine is bounded and changes gently: no jumps. A long wave hardly moves from one position to the next, so neighbours "
        "look the same; a short wave comes round again, so strangers look the same. One wave is not enough, but many of "
        "different lengths together tell all positions apart."
    ),
    maths=r"PE_{t,i} = \sin(t\,\omega_i) \qquad \omega_i = 10000^{-i/d} \qquad \lambda_i = \frac{2\pi}{\omega_i} \in "
    r"[\,2\pi,\; 10000 \cdot 2\pi\,)",
    code=((table, "torch.sin("), (wavenumbers, "torch.exp(")),
    action=N_("Find a wave so long that no two neighbours differ by more than 0.01. Then let all waves work together."),
)
TURN = Panel(
    id="turn",
    title=N_("Sine and cosine"),
    idea=N_(
        "Why the cosine as well? A sine and a cosine of the same wave are the two coordinates of a hand on a clock. Going on by "
        "some places turns every hand by a fixed angle, wherever it stood. So “five places on” is one and the same matrix for "
        "every position, and a linear layer can learn it. With the sine alone there is no such matrix."
    ),
    maths=r"PE_{t+k} = M_k\, PE_t \qquad M_k = \begin{pmatrix} R(k\omega_0) & & \\ & \ddots & \\ & & R(k\omega_{d/2-1}) "
    r"\end{pmatrix} \qquad R(\varphi) = \begin{pmatrix} \cos\varphi & \sin\varphi \\ -\sin\varphi & \cos\varphi \end{pmatrix}",
    code=(rotation, (table, "angle =", "angle.sin()")),
    action=N_("Choose how far to go on, k. Then move t: the hands move, the matrix does not."),
)
WISHES = Panel(
    id="wishes",
    title=N_("Three wishes"),
    idea=N_(
        "Three things are asked of an encoding: it tells where a token stands; neighbours are equally far apart in every sequence, "
        "however long; and it can say something about lengths never seen. Each cell is measured on the table itself. Three more "
        "columns show what the wishes forget."
    ),
    maths=r"\text{1: } \min_{s \ne t} \lVert PE_s - PE_t \rVert > 0 \qquad \text{2: } \max_t \bigl| \lVert \Delta PE^{(10)}_t \rVert "
    r"- \lVert \Delta PE^{(20)}_t \rVert \bigr| = 0 \qquad \text{3: } \frac{\max |PE^{(20)}|}{\max |PE^{(10)}|} \le 1.05",
    code=(
        (
            wishes,
            "apart = torch.cdist",
            '"distinct"',
            '"same_step"',
            '"bounded"',
            '"even"',
            "centred =",
            '"kept"',
            "over, under",
            '"beyond"',
        ),
    ),
    action=N_(
        "Click a red cell and read how it was measured. Which rung above the line has no red cell in the first four columns?"
    ),
)
LENGTH = Panel(
    id="length",
    title=N_("Longer than ever seen"),
    idea=N_(
        "Sines are bounded and go on for ever, so a model should cope with longer strings than it was trained on. That is what many "
        "texts conclude. The test is easily made: train on 3 to 10 symbols, ask for up to 20."
    ),
    maths=r"\text{exact match}(T) = \frac{\text{strings of length } T \text{ written without a mistake}}"
    r"{\text{strings of length } T} \qquad T = 3 \dots 20",
    code=(length_curve, (at_length, "model_copy(update={", "unseen(")),
    action=N_(
        "Say what you expect. Then look at what came out, and ask the model of this run for strings of every length."
    ),
)

LAB = Lab(
    "positions",
    N_("Positions"),
    N_("How a model that adds things up can know their order: from counting to sine and cosine, every claim measured."),
    (LADDER, NORM, UNIT, BINARY, SINE, TURN, WISHES, LENGTH),
)
