"""The operator's view: node, intents and slots of the last turn, and the way there.

Goes in: `State` events. Comes out: a pane. Pure but for the small widget at the end.
"""

from textual.content import Content
from textual.reactive import reactive
from textual.visual import VisualType
from textual.widget import Widget

from subterra.tui.events import State

EMPTY_STATE = "No state yet: it comes with the agent's next reply."
NO_STATE = "This agent writes no state line."
UNREADABLE = "The state line of this turn cannot be read:"
MAX_ROUTE = 12
"""Nodes of the route that are shown."""


def words(name: str) -> str:
    """Name as people write it."""
    return name.replace("_", " ")


def state_view(state: State | None, route: tuple[str, ...] = (), *, traced: bool = True) -> Content:
    """Compose the pane's text."""
    if state is None:
        return Content.styled(EMPTY_STATE if traced else NO_STATE, "$quiet")
    if not state.node:
        return Content.assemble((UNREADABLE, "$warning"), "\n", state.line)
    rows = [_field("node", words(state.node), "bold $primary")]
    rows += [_field("heard", "\n".join(map(words, state.intents)))]
    rows += [
        _field(words(name), value or "not known", "" if value else "$quiet")
        for name, value in state.slots
    ]
    if state.flags:
        rows.append(_field("flags", "\n".join(map(words, state.flags))))
    if route:
        rows.append(_route(route))
    return Content("\n\n").join(rows)


def _field(name: str, value: str, style: str = "") -> Content:
    return Content.assemble((name, "$quiet"), "\n", *_indented(value, style))


def _indented(value: str, style: str) -> list[str | Content]:
    return [Content.styled("\n".join("  " + line for line in value.split("\n")), style)]


def _route(route: tuple[str, ...]) -> Content:
    shown = route[-MAX_ROUTE:]
    steps = [
        f"  {'●' if index == len(shown) - 1 else '○'} {words(node)}"
        for index, node in enumerate(shown)
    ]
    more = ["  …"] if len(route) > len(shown) else []
    return Content.assemble(("route", "$quiet"), "\n", "\n".join([*more, *steps]))


class StatePane(Widget):
    """Side pane, hidden until the operator asks for it."""

    state: reactive[State | None] = reactive(None, layout=True)
    route: reactive[tuple[str, ...]] = reactive((), layout=True)
    traced: reactive[bool] = reactive(True, layout=True)

    def __init__(self, *, shown: bool = False) -> None:
        super().__init__(id="state-pane")
        self.border_title = "State"
        self.display = shown

    def render(self) -> VisualType:
        """Draw the pane."""
        return state_view(self.state, self.route, traced=self.traced)

    def record(self, state: State) -> None:
        """Show the state of the newest turn and lengthen the route when the node changed."""
        self.state = state
        if state.node and self.route[-1:] != (state.node,):
            self.route = (*self.route, state.node)[-4 * MAX_ROUTE :]

    def clear(self) -> None:
        """Forget the conversation."""
        self.state, self.route, self.traced = None, (), True
