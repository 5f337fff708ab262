"""The two looks of the app: ink with a shell-coloured accent, and paper."""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="permesh-dark",
    dark=True,
    primary="#7fb4ca",
    secondary="#957fb8",
    accent="#e0a363",
    success="#98bb6c",
    warning="#e6c384",
    error="#e46876",
    foreground="#d8dce2",
    background="#14171c",
    surface="#181c22",
    panel="#20252d",
    variables={
        "footer-key-foreground": "#e0a363",
        "footer-background": "#181c22",
        "footer-description-foreground": "#9aa2ad",
        "border": "#3a424e",
        "border-blurred": "#2a3038",
        "scrollbar": "#2a3038",
        "scrollbar-hover": "#3a424e",
        "scrollbar-active": "#4a5462",
        "scrollbar-background": "#14171c",
        "scrollbar-background-hover": "#14171c",
        "scrollbar-background-active": "#14171c",
        "input-cursor-background": "#d8dce2",
        "input-selection-background": "#7fb4ca 35%",
    },
)

LIGHT = Theme(
    name="permesh-light",
    dark=False,
    primary="#20607f",
    secondary="#5b3f8f",
    accent="#a8590c",
    success="#3e7a2e",
    warning="#8a6100",
    error="#b3303f",
    foreground="#2a2e34",
    background="#faf8f4",
    surface="#f4f1ea",
    panel="#ebe6dc",
    variables={
        "footer-key-foreground": "#a8590c",
        "footer-background": "#f0ece3",
        "footer-description-foreground": "#5e636b",
        "border": "#c4bcac",
        "border-blurred": "#ddd6c8",
        "scrollbar": "#ddd6c8",
        "scrollbar-hover": "#c4bcac",
        "scrollbar-active": "#aaa08d",
        "scrollbar-background": "#faf8f4",
        "scrollbar-background-hover": "#faf8f4",
        "scrollbar-background-active": "#faf8f4",
        "input-selection-background": "#20607f 25%",
    },
)
