"""Small files of tagged sentences, which a small model learns: words that end in -ly and -ing, names, digits."""

import random


def tagged(number=80, seed=0):
    """Return sentences as lists of (word, tag)."""
    draw = random.Random(seed)
    stems = ["walk", "sing", "talk", "read", "jump", "look", "work", "rest"]
    names = ["Ann", "Bo", "Cy", "Dee", "Eve", "Flo"]
    return [
        [
            (draw.choice(names) + draw.choice("aeiou"), "PROPN"),
            ("is", "AUX"),
            (draw.choice(stems) + draw.choice(stems) + "ing", "VERB"),
            *([(draw.choice(stems) + "ly", "ADV")] * draw.randint(0, 2)),
            (str(draw.randint(1, 999)), "NUM"),
            (".", "PUNCT"),
        ]
        for _ in range(number)
    ]


def write_columns(path, sentences):
    path.write_text("\n".join("".join(f"{word}\t{tag}\n" for word, tag in sentence) for sentence in sentences))
    return path


def write_conllu(path, sentences):
    lines = []
    for sentence in sentences:
        lines.append(f"# text = {' '.join(word for word, _ in sentence)}")
        lines.append("1-2\tboth\t_\t_\t_\t_\t_\t_\t_\t_")
        lines += [f"{n}\t{word}\t_\t{tag}\tX{tag}\t_\t0\t_\t_\t_" for n, (word, tag) in enumerate(sentence, 1)]
        lines += ["9.1\tempty\t_\t_\t_\t_\t_\t_\t_\t_", ""]
    path.write_text("\n".join(lines) + "\n")
    return path
