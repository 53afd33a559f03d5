"""Helpers of the tests of studies: run one, read its table, and draw maps by hand."""


def run(script, folder, *arguments):
    return script.main([*map(str, arguments), "--output", str(folder)])


def cells(text, row):
    """The cells of a row, from every table that has it."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {row} |")]
    return [[cell.strip() for cell in line.strip("|").split("|")][1:] for line in lines]


class Painter:
    """An attribution whose map is a function of (inputs, target), the same for every layer."""

    def __init__(self, paint, layers):
        self.paint, self.layers = paint, layers

    def attribute(self, inputs, target=None, per_layer=False):
        maps = self.paint(inputs, target)
        return (maps,) * len(self.layers) if per_layer else maps


def painting(paint):
    return lambda network, layers: Painter(paint, layers)
