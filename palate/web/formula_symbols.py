r"""The commands of LaTeX that `palate.web.formula` draws."""

from __future__ import annotations

_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigmaf sigma tau upsilon phi chi psi omega"
)
LETTERS = {
    **{f"\\{name}": chr(0x3B1 + index) for index, name in enumerate(_GREEK.split()) if name not in {"omicron", "sigmaf"}},
    "\\Gamma": "Γ", "\\Delta": "Δ", "\\Theta": "Θ", "\\Lambda": "Λ", "\\Xi": "Ξ", "\\Pi": "Π", "\\Sigma": "Σ", "\\Upsilon": "\u03a5",
    "\\Phi": "Φ", "\\Psi": "Ψ", "\\Omega": "Ω", "\\varepsilon": "ε", "\\epsilon": "ϵ", "\\vartheta": "ϑ", "\\varphi": "φ", "\\phi": "ϕ",
    "\\varrho": "ϱ", "\\varsigma": "ς", "\\infty": "∞", "\\partial": "∂", "\\nabla": "∇", "\\ell": "ℓ", "\\hbar": "ℏ", "\\emptyset": "∅",
    "\\Re": "ℜ", "\\Im": "ℑ", "\\aleph": "ℵ", "\\imath": "\u0131", "\\jmath": "\u0237", "\\%": "%", "\\$": "$", "\\#": "#", "\\&": "&",
    "\\ldots": "…", "\\dots": "…", "\\cdots": "⋯", "\\vdots": "⋮", "\\ddots": "⋱", "\\top": "⊤", "\\bot": "⊥", "\\angle": "∠", "\\_": "_",
}  # fmt: skip
OPERATORS = {
    **{char: char for char in "+=<>()[]|/.,;:!?*"},
    "-": "\u2212", "\\times": "×", "\\cdot": "⋅", "\\div": "÷", "\\pm": "±", "\\mp": "∓", "\\ast": "\u2217", "\\star": "⋆",
    "\\circ": "\u2218",
    "\\bullet": "\u2219", "\\oplus": "⊕", "\\otimes": "⊗", "\\odot": "⊙", "\\leq": "≤", "\\le": "≤", "\\geq": "≥", "\\ge": "≥",
    "\\neq": "≠",
    "\\ne": "≠", "\\ll": "≪", "\\gg": "≫", "\\approx": "≈", "\\equiv": "≡", "\\sim": "\u223c", "\\simeq": "≃", "\\cong": "≅",
    "\\propto": "∝",
    "\\in": "∈", "\\notin": "∉", "\\ni": "∋", "\\subset": "⊂", "\\subseteq": "⊆", "\\supset": "⊃", "\\supseteq": "⊇", "\\cup": "\u222a",
    "\\cap": "∩", "\\setminus": "\u2216", "\\land": "\u2227", "\\wedge": "\u2227", "\\lor": "\u2228", "\\vee": "\u2228", "\\neg": "¬",
    "\\lnot": "¬", "\\forall": "∀", "\\exists": "∃", "\\to": "→", "\\rightarrow": "→", "\\leftarrow": "←", "\\leftrightarrow": "↔",
    "\\Rightarrow": "⇒", "\\Leftarrow": "⇐", "\\Leftrightarrow": "⇔", "\\implies": "⟹", "\\iff": "⟺", "\\mapsto": "↦", "\\uparrow": "↑",
    "\\downarrow": "↓", "\\mid": "\u2223", "\\nmid": "∤", "\\parallel": "∥", "\\perp": "⟂", "\\models": "⊨", "\\vdash": "⊢",
    "\\therefore": "∴", "\\because": "∵", "\\sum": "∑", "\\prod": "∏", "\\int": "∫", "\\iint": "∬", "\\oint": "∮", "\\bigcup": "⋃",
    "\\bigcap": "⋂", "\\{": "{", "\\}": "}", "\\|": "‖", "\\vert": "|", "\\Vert": "‖", "\\langle": "⟨", "\\rangle": "⟩", "\\lfloor": "⌊",
    "\\rfloor": "⌋", "\\lceil": "⌈", "\\rceil": "⌉", "\\prime": "\u2032", "\\colon": ":", "\\bmod": "mod",
}  # fmt: skip
_NAMES = "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp max min lim sup inf arg det dim ker gcd deg Pr"
FUNCTIONS = frozenset(f"\\{name}" for name in _NAMES.split())
LIMITS = frozenset({"\\sum", "\\prod", "\\bigcup", "\\bigcap", "\\max", "\\min", "\\lim", "\\sup", "\\inf"})
"""What has its scripts below and above itself."""
ACCENTS = {
    "\\hat": "^", "\\widehat": "^", "\\bar": "\u00af", "\\overline": "\u00af", "\\tilde": "~", "\\widetilde": "~", "\\vec": "→",
    "\\dot": "˙",
    "\\ddot": "¨",
}  # fmt: skip
SPACES = {"\\,": 0.17, "\\:": 0.22, "\\>": 0.22, "\\;": 0.28, "\\!": -0.17, "\\ ": 0.33, "~": 0.33, "\\quad": 1, "\\qquad": 2}
TEXTS = frozenset({"\\text", "\\textrm", "\\mathrm", "\\operatorname", "\\mbox"})

_CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SMALL = _CAPITALS.lower()
_STANDING = dict(zip("CHNPQRZ", "ℂℍℕℙℚℝℤ", strict=True))
_WRITTEN = dict(zip("BEFHILMR", "ℬℰℱℋℐℒℳℛ", strict=True))
ALPHABETS = {
    "\\mathbb": {char: _STANDING.get(char, chr(0x1D538 + index)) for index, char in enumerate(_CAPITALS)},
    "\\mathcal": {char: _WRITTEN.get(char, chr(0x1D49C + index)) for index, char in enumerate(_CAPITALS)},
    "\\mathbf": {
        **{char: chr(0x1D400 + index) for index, char in enumerate(_CAPITALS + _SMALL)},
        **{str(digit): chr(0x1D7CE + digit) for digit in range(10)},
    },
}
ENVIRONMENTS = {
    "matrix": ("", ""), "pmatrix": ("(", ")"), "bmatrix": ("[", "]"), "vmatrix": ("|", "|"), "Vmatrix": ("‖", "‖"), "cases": ("{", ""),
    "aligned": ("", ""), "align": ("", ""), "align*": ("", ""), "gathered": ("", ""), "equation": ("", ""), "equation*": ("", ""),
}  # fmt: skip
