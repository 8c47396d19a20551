"""A typed method for every command on what is noted of nodes (SPEC 4.4)."""

from __future__ import annotations

from storage_protocol import commands as c
from storage_protocol.names import Value
from storage_protocol.records import Annotation

from .calls import Calls, S
from .replies import AnnotationPage


class Annotations(Calls[S]):
    """The commands on annotations."""

    async def annotate_node(self, node_id: str, name: str, value: Value, author: str = "") -> Annotation | S:
        """Note something of a run or an acquisition, at any time: its quality, or a comment."""
        command = c.AnnotateNode(node_id=node_id, name=name, value=value, author=author)
        return await self._change(command, Annotation)

    async def list_annotations(
        self, node_id: str, *, limit: int = 100, cursor: str | None = None
    ) -> AnnotationPage:
        """All that was noted of a node, newest first."""
        return await self._ask(c.ListAnnotations(node_id=node_id, limit=limit, cursor=cursor), AnnotationPage)
