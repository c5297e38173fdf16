"""What the Adam paper claims of its method, each claim with a number.

Reading order: claims.py (what a claim is), then one module per group of claims:

    steps.py        the size of a step: its bound, bias correction, Adagrad and RMSprop as special cases, AdaMax
    rescaling.py    gradients of another scale, losses of another scale
    cost.py         memory and time
    noise.py        a moving objective, heavy-tailed noise
    sparse.py       rare features
    training.py     tuning, annealing and averaging on a small model
    regret.py       where Adam does not converge
    loops.py        compiled loops for the runs of a million steps
    picture.py      the picture
"""
