# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
"""Words of texts as Keras's text preprocessing finds, counts and numbers them.

Run as `python tests/conformance/generate/keras_words.py`; see README.md beside this file.
"""

import json
from pathlib import Path

import tf_keras
from tf_keras.preprocessing.text import Tokenizer, text_to_word_sequence

TRAIN = [
    "The cat sat on the mat; the dog didn't.",
    "A well-known film - 10/10!  (Don't miss it: 3.5 stars, at 9pm.)",
    "first line\nsecond\tcolumn\r\nthird<br /><br />line",
    "caf\u00e9 CAF\u00c9 na\u00efve \u00c9t\u00e9 Stra\u00dfe STRASSE \u1e9e \u0130stanbul \u00c5m\u00e5l",
    "no\u00a0break thin\u2009space next\u0085line dash\u0096dash em\u2014dash \u201cquotes\u201d \u2026 it\u2019s",
    "\u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3 \u03a3 \u03a3\u0391\u03a3 \u03cc\u03c7\u03b9 \u039f\u03a7\u0399",
    "\u65e5\u672c\u8a9e \u65e5\u672c \u041f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440 \U0001f600 ok\U0001f600",
    "[PAD] <s> start mark padding mark no-word mark out-of-vocabulary mark",
    "'quoted' ''' ' '' rock'n'roll o'clock'",
    '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~',
    'x!y"z#x$y%z&x(y)z*x+y,z-x.y/z:x;y<z=x>y?z@x[y\\z]x^y_z`x{y|z}x~y',
    "zebra apple zebra apple mango the THE The",
]
NEW = ["The zebra didn't know the unknown word.", "Caf\u00e9, caf\u00e9 - mango!", "nothing here", ""]

if __name__ == "__main__":
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(TRAIN)
    golden = {
        "made by": f"tf_keras {tf_keras.__version__}",
        "train": TRAIN,
        "words": [text_to_word_sequence(text) for text in TRAIN],
        "counts": dict(tokenizer.word_counts),
        "word_index": tokenizer.word_index,
        "new": NEW,
        "sequences": tokenizer.texts_to_sequences(NEW),
    }
    path = Path(__file__).parent.parent / "golden" / "keras_words.json"
    path.write_text(json.dumps(golden, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")
