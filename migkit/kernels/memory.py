"""Which function serves which engine: the operations through which the loop drives RAM.

With the JIT the type of ``ram`` chooses when the loop is compiled; without it, when an operation is called.
"""

from __future__ import annotations

from numba.extending import overload

from migkit.kernels import expected_host_pages, ram_bitmap, ram_expected
from migkit.kernels.options import PART
from migkit.kernels.ram_bitmap import BitmapRam


def _by_engine(bitmap, expected):
    def operation(ram, *arguments):
        return (bitmap if isinstance(ram, BitmapRam) else expected)(ram, *arguments)

    @overload(operation, jit_options=PART)
    def _choose(ram, *arguments):
        serves = bitmap if getattr(ram, "instance_class", None) is BitmapRam else expected
        return lambda ram, *arguments: serves(ram, *arguments)

    return operation


reset = _by_engine(ram_bitmap.bitmap_reset, ram_expected.expected_reset)
"""``reset(ram, case, regions, seed, replicate)``: all pages dirty."""
remaining = _by_engine(ram_bitmap.bitmap_remaining, ram_expected.expected_remaining)
"""``remaining(ram)``: dirty pages."""
fraction = _by_engine(ram_bitmap.bitmap_fraction, ram_expected.expected_fraction)
"""``fraction(ram)``: fraction of a page beyond the whole dirty pages; bitmaps have none."""
stretch = _by_engine(ram_bitmap.bitmap_stretch, ram_expected.expected_stretch)
"""``stretch(ram, case, regions, t)``: dirty pages from the cursor on that cost the same, and their zero share."""
alike = _by_engine(ram_bitmap.bitmap_alike, ram_expected.expected_alike)
"""``alike(ram, case, regions, timed)``: the same with nothing in between; 0 pages if something comes first. ``timed``:
it is known when each page is put, so that chunks may be cleared on the way."""
rewind = _by_engine(ram_bitmap.bitmap_rewind, ram_expected.expected_rewind)
"""``rewind(ram)``: the cursor at the first page, right after a sync."""
dirty_runs = _by_engine(ram_bitmap.bitmap_dirty_runs, ram_expected.expected_dirty_runs)
"""``dirty_runs(ram, case)``: runs of dirty pages, right after a sync; a whole number."""
dirty_of = _by_engine(ram_bitmap.bitmap_dirty_of, ram_expected.expected_dirty_of)
"""``dirty_of(ram, regions, r)``: dirty pages of a region, right after a sync; a float."""
host_pages_ahead = _by_engine(ram_bitmap.bitmap_host_pages_ahead, expected_host_pages.expected_host_pages_ahead)
"""``host_pages_ahead(ram, case, pages, most)``: host pages that end among the next dirty ``pages``, up to ``most``, and
the pages until then, as ``(pages, host pages)``."""
end_host_page = _by_engine(ram_bitmap.bitmap_end_host_page, expected_host_pages.expected_end_host_page)
"""``end_host_page(ram, case)``: the cursor goes to the end of the host page of which the last dirty page was sent."""
make_whole = _by_engine(ram_bitmap.bitmap_make_whole, expected_host_pages.expected_make_whole)
"""``make_whole(ram, case)``: a host page that is dirty in part becomes wholly dirty; right after a rewind."""
take = _by_engine(ram_bitmap.bitmap_take, ram_expected.expected_take)
"""``take(ram, case, count)``: send pages."""
tail = _by_engine(ram_bitmap.bitmap_tail, ram_expected.expected_tail)
"""``tail(ram, case)``: dirty pages from the cursor to the end of RAM; a whole number."""
sync = _by_engine(ram_bitmap.bitmap_sync, ram_expected.expected_sync)
"""``sync(ram, case, regions, writers, t, number)``: bring the guest's writes in; the pages that became dirty."""
