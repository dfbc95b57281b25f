"""The keys of the app, in one place: what presses them reads them here, and so does the list that people open."""

from playground.i18n import N_

TRAIN, STEP, RESET, NEW = "P", "S", "X", "N"
# Page, what is pressed, what it does. Keys of buttons work where the button can be pressed.
LISTED = (
    (N_("Train"), TRAIN, N_("Train, pause, go on")),
    (N_("Train"), STEP, N_("One training step")),
    (N_("Train"), RESET, N_("A new run from the same start weights")),
    (N_("Train"), NEW, N_("A new run with changed settings while another trains")),
    (N_("Train"), N_("Space"), N_("Replay the training, or stop the replay")),
    (N_("Attention"), N_("Space"), N_("Play the training, or pause")),
    (N_("Attention"), "← →", N_("The saved step before or after")),
    (N_("Generate"), "→ N", N_("Write the next token")),
    (N_("Generate"), "←", N_("Take the last token back")),
    (N_("Generate"), N_("Space"), N_("Play, or pause")),
    (N_("A picture with the focus"), N_("Arrows"), N_("From cell to cell, from step to step, from part to part")),
    (N_("A picture with the focus"), "Enter", N_("Choose what has the focus")),
    (N_("Every slider"), "← →", N_("One stop less or more")),
)
