"""The Transformer of "Attention Is All You Need" (Vaswani et al. 2017), its toy tasks, training and decoding.

PyTorch only: nothing here knows of the app. Start reading at `attention.py`, then `model.py`, then `train.py`.
"""
