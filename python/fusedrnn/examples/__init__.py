"""Small systems, one runnable file each: ``python -m fusedrnn.examples.NAME``.

forecast    two LSTM layers predict next year's sunspots from ten years
waveforms   two Elman layers tell sine, square, triangle and sawtooth apart under noise
bare_rnn    an Elman network in plain NumPy arrays and plain gradient descent: BPTT without a framework
authorship  an LSTM tells which module of Python a line of source is from; clipping by norm and by value
digits      two Elman layers read handwritten digits row by row: odd or even

gradient_flow has four networks remember the first symbol, and shows where their gradients vanish.

torch_language_model, torch_time_sequence, torch_classifier and torch_recurrent_ppo are models of PyTorch
before and after ``fusedrnn.torch.replace``, torch_ddp trains data-parallel; they need PyTorch, nothing else.

The others need ``pip install 'fusedrnn[examples]'``.
"""
