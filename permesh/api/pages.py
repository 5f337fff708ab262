"""How every list on the local API is paged."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

MAX_PAGE = 500
DEFAULT_PAGE = 100

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Cursor = Annotated[str | None, Query(max_length=512, description="`next_cursor` of a page")]
