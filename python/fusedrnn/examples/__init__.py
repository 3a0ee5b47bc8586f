"""Five small systems, one runnable file each: ``python -m fusedrnn.examples.NAME``.

forecast    two LSTM layers predict next year's sunspots from ten years
waveforms   two Elman layers tell sine, square, triangle and sawtooth apart under noise
bare_rnn    an Elman network in plain NumPy arrays and plain gradient descent: BPTT without a framework
authorship  an LSTM tells which module of Python a line of source is from; clipping by norm and by value
digits      two Elman layers read handwritten digits row by row: odd or even

They need ``pip install 'fusedrnn[examples]'``.
"""
