"""What happens after a product was featured."""

import logging

from byodpp.events import EventHandler

log = logging.getLogger("shop")


class TellTheWindow(EventHandler):
    events = ("product.featured",)

    async def handle(self, event):
        log.info("product %s goes into the window", event.data["id"])
