"""The twelve icon sets: which package, who drew it, under which licence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class IconSet:
    """One icon set of the release.

    `licence` is the SPDX id of the drawings as stated by the designers' own repository, which for fxemoji
    is not what the npm package says (that is the licence of its code).
    `join` says how an icon finds its concept: "chars" (the set's own code points), "names" or "files".
    """

    name: str
    version: str
    designer: str
    licence: str
    attribution: str
    join: str
    share_alike: bool = False

    @property
    def package(self) -> str:
        return f"@iconify-json/{self.name}"


EMOJIBASE = ("emojibase-data", "17.0.0")

_NOTO = "Noto Emoji, © Google Inc., https://github.com/googlefonts/noto-emoji"
_FLUENT = "Fluent Emoji, © Microsoft Corporation, https://github.com/microsoft/fluentui-emoji"
_TWEMOJI = "Twemoji, © Twitter, Inc. and other contributors, https://github.com/jdecked/twemoji"
_EMOJIONE = "Emoji One 2.3, © EmojiOne, as kept by EmojiTwo, https://github.com/EmojiTwo/emojitwo"
_EMOJIONE_V1 = "Emoji One 1, © EmojiOne, https://github.com/joypixels/emojione-legacy"
_FXEMOJI = "FxEmojis, © Mozilla Foundation, https://github.com/mozilla/fxemoji"
_OPENMOJI = "OpenMoji, © HfG Schwäbisch Gmünd and contributors, https://github.com/hfg-gmuend/openmoji"
_STREAMLINE = "Streamline Emojis, © Streamline, https://github.com/webalys-hq/streamline-vectors"

SETS: tuple[IconSet, ...] = (
    IconSet("noto", "1.2.9", "Google", "Apache-2.0", _NOTO, "chars"),
    IconSet("noto-v1", "1.2.5", "Google", "Apache-2.0", _NOTO, "names"),
    IconSet("twemoji", "1.2.5", "Twitter", "CC-BY-4.0", _TWEMOJI, "chars"),
    IconSet("fluent-emoji", "1.2.7", "Microsoft", "MIT", _FLUENT, "chars"),
    IconSet("fluent-emoji-flat", "1.2.6", "Microsoft", "MIT", _FLUENT, "chars"),
    IconSet("fluent-emoji-high-contrast", "1.2.6", "Microsoft", "MIT", _FLUENT, "chars"),
    IconSet("emojione", "1.2.3", "EmojiOne", "CC-BY-4.0", _EMOJIONE, "names"),
    IconSet("emojione-monotone", "1.2.1", "EmojiOne", "CC-BY-4.0", _EMOJIONE, "names"),
    IconSet("fxemoji", "1.2.2", "Mozilla", "CC-BY-4.0", _FXEMOJI, "files"),
    IconSet("streamline-emojis", "1.2.4", "Streamline", "CC-BY-4.0", _STREAMLINE, "names"),
    IconSet(
        "openmoji", "1.2.29", "HfG Schwäbisch Gmünd", "CC-BY-SA-4.0", _OPENMOJI, "chars", share_alike=True
    ),
    IconSet("emojione-v1", "1.2.3", "EmojiOne", "CC-BY-SA-4.0", _EMOJIONE_V1, "names", share_alike=True),
)

# The 3D set has no code points of its own and the same icon names as the flat one.
CHARS_OF = {"fluent-emoji": "fluent-emoji-flat"}

# Sets whose code points and names (newest first) tell the others' names.
NAMING = ("noto", "twemoji", "fluent-emoji-flat", "fluent-emoji-high-contrast")

# Never seen in training; their drawings of test concepts are the queries of cross-designer retrieval.
HELD_OUT = ("Mozilla", "Streamline")
