"""Lab 6, two data flows: the function that draws each panel."""

from playground.lessons.flows_inference import cost, inference
from playground.lessons.flows_memory import memory, trained
from playground.lessons.flows_tokens import loss
from playground.lessons.flows_training import training
from playground.lessons.flows_wrong import wrong

PANELS = {
    "training": training,
    "loss": loss,
    "inference": inference,
    "cost": cost,
    "memory": memory,
    "trained": trained,
    "wrong": wrong,
}
