"""The texts that people read in the pictures."""

PEOPLE = ("Amara", "Jonas", "Mei", "Tomas")
RULE = "The answer must not give a dose of a medicine without naming who it is for."
RUBRIC = (
    {"id": "sugar", "text": "Names a dish without sugar.", "weight": 3},
    {"id": "time", "text": "The dish is ready within 20 minutes, resting included.", "weight": 2},
    {"id": "shopping", "text": "Asks for something that the person does not have.", "weight": -2},
    {"id": "amounts", "text": "Gives amounts that one can measure in a kitchen.", "weight": 1},
)
TEXT = """**Choose the answer you would rather have been given.**

1. Does it do what was asked? That counts most.
2. Is what it says true? If you cannot tell, do not guess.
3. Is it as short as it can be?

Longer is not better. *Level* means you would not mind either; it is not a way out of a hard choice.

| Key | Means |
|---|---|
| `1` `2` | first, second |
| `=` | level |
| `0` | both bad |
"""

SKY_A = """Sunlight looks white, but it is a mix of every colour of the rainbow. When it comes through the air it bumps into tiny
bits of air, and **blue light bounces around much more** than red light does.

So wherever you look up, some of that bouncing blue reaches your eyes, and the whole sky looks blue."""
SKY_B = """The sky appears blue due to Rayleigh scattering, whose cross-section is inversely proportional to the fourth power of the
wavelength:

- short wavelengths scatter more
- long wavelengths scatter less

```python
def scattering(wavelength_nm):
    return (550 / wavelength_nm) ** 4
```

Hence the perceived colour."""

ITEMS = (
    ("Explain to a ten-year-old why the sky is blue.", SKY_A, SKY_B),
    (
        "I have flour, eggs and milk, and I must not eat sugar. What can I cook in 20 minutes?",
        "Pancakes. Whisk 2 eggs with 250 ml of milk, stir in 120 g of flour and salt, rest it 5 minutes. Fry thin, a minute a side.",
        "Sweet crepes with plenty of sugar and jam!",
    ),
    (
        "Write a polite e-mail that moves Tuesday's meeting to Thursday.",
        "Dear Sam,\n\nwould Thursday at the same time suit you as well? Something has come up on Tuesday.\n\nKind regards\nKim",
        "cant do tuesday. thursday ok? k",
    ),
    ("What is the capital of Australia?", "Canberra.", "Sydney, which is also its largest city."),
    ("How do I reverse a list in Python?", "`items[::-1]` gives a copy; `items.reverse()` changes the list.", "Use a loop, I think."),
    ("Is it safe to eat raw cookie dough?", "Better not: raw flour and raw eggs can carry germs.", "Yes, everyone does it."),
    ("Name three rivers in Africa.", "The Nile, the Congo and the Niger.", "The Nile, the Amazon and the Congo."),
    (
        "Sum up photosynthesis in a sentence.",
        "Plants turn light, water and carbon dioxide into sugar and oxygen.",
        "It is how plants breathe.",
    ),
)

WRITE_ITEMS = (
    (
        "My neighbour plays music at night. What do I say to her?",
        "Ring when it is quiet and say it kindly: \u201cYou may not know how the wall carries sound. Could it be softer after ten?\u201d",
        "Turn it down or I will call the police.",
        "Noise at night can be reported to the city. Keep a log with dates and times first.",
        "Perhaps get ear plugs? They are cheap.",
    ),
    (
        "How do I keep basil alive?",
        "Water from below, pick from the top.",
        "Sun.",
        "Basil needs six hours of light.",
        "Buy a new one each week.",
    ),
    ("How tall is Mount Everest?", "8,849 metres.", "About 8,000 metres.", "Very tall.", "29,032 feet (8,849 m)."),
)
