"""Settings: read and checked once, frozen ever after.

`reading` knows every setting, `loading` where it may come from, `types` how a text becomes a value,
`reference` what the configuration page tells of each, and `secret_key` gives or makes the
application's secret.
"""

from __future__ import annotations

from byodpp.settings.loading import load_settings
from byodpp.settings.reading import Settings
from byodpp.settings.reference import SettingReference, settings_reference

__all__ = ["SettingReference", "Settings", "load_settings", "settings_reference"]
