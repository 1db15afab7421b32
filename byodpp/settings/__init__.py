"""Settings: read and checked once, frozen ever after.

`reading` knows every setting and where it may come from, `types` how a text becomes a value, and
`secret_key` gives or makes the application's secret.
"""

from __future__ import annotations

from byodpp.settings.reading import SettingReference, Settings, load_settings, settings_reference

__all__ = ["SettingReference", "Settings", "load_settings", "settings_reference"]
