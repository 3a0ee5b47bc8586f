"""What every part of the package uses: parameters, checks, device arrays, names of weights, hints."""
