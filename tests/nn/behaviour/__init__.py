"""What every system of the table does, point by point, observed."""

from . import channels_last, constructor, derivatives, dtypes, functions, lazy, numerics, relatives, shapes, states, statistics, styles
from .row import Row, Theme

THEMES: tuple[Theme, ...] = (
    constructor.defaults,
    constructor.refused,
    shapes.ranks,
    shapes.channels,
    shapes.single,
    shapes.empty,
    dtypes.theme,
    statistics.used,
    statistics.running,
    numerics.theme,
    numerics.layers,
    derivatives.theme,
    functions.theme,
    styles.replaced,
    styles.adain,
    states.theme,
    lazy.theme,
    channels_last.theme,
    relatives.taken,
    relatives.batch,
    relatives.trailing,
)
ROWS: tuple[Row, ...] = tuple(row for theme in THEMES for row in theme.rows)
