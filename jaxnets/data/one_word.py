"""Questions that are answered in one word of capitals: a small set of conversations that teaches a form of answers."""

from jaxnets.data.dialogues import Dialogue, Message

# What is asked of each word, and the words with their answers.
_QUESTIONS = {
    "What is the capital of {}?": (
        "Austria Vienna, Belgium Brussels, Canada Ottawa, Chile Santiago, China Beijing, Cuba Havana, Denmark "
        "Copenhagen, Egypt Cairo, Finland Helsinki, France Paris, Germany Berlin, Greece Athens, Hungary Budapest, "
        "Iceland Reykjavik, Iran Tehran, Iraq Baghdad, Ireland Dublin, Italy Rome, Japan Tokyo, Kenya Nairobi, Lebanon "
        "Beirut, Norway Oslo, Peru Lima, Poland Warsaw, Portugal Lisbon, Romania Bucharest, Russia Moscow, Spain "
        "Madrid, Sweden Stockholm, Syria Damascus, Thailand Bangkok, Turkey Ankara, Ukraine Kyiv, Vietnam Hanoi"
    ),
    "What is the opposite of {}?": (
        "hot cold, big small, up down, left right, day night, black white, open closed, fast slow, good bad, happy "
        "sad, young old, rich poor, wet dry, full empty, light dark, high low, early late, hard soft, strong weak, "
        "north south, east west, love hate, win lose, buy sell, true false, war peace, loud quiet, first last"
    ),
    "Which element has the symbol {}?": (
        "H hydrogen, He helium, C carbon, N nitrogen, O oxygen, Na sodium, Mg magnesium, Al aluminium, Si silicon, Cl "
        "chlorine, K potassium, Ca calcium, Fe iron, Cu copper, Zn zinc, Ag silver, Sn tin, Au gold, Hg mercury, "
        "Pb lead"
    ),
    "Which month comes after {}?": (
        "January February, February March, March April, April May, May June, June July, July August, August September, "
        "September October, October November, November December, December January"
    ),
    "What colour is {}?": (
        "grass green, snow white, coal black, blood red, butter yellow, milk white, chocolate brown, salt white, "
        "a_carrot orange, a_ripe_banana yellow, a_clear_sky blue, a_ripe_tomato red, a_flamingo pink, a_crow black"
    ),
    "What is a young {} called?": (
        "dog puppy, cat kitten, cow calf, horse foal, sheep lamb, bear cub, duck duckling, goat kid, deer fawn, swan "
        "cygnet"
    ),
}
_TENTHS = {7: "validation", 3: "test", 8: "test"}  # of each kind of question


def one_word() -> dict[str, list[Dialogue]]:
    """Return questions with their answers, each one word of capitals: "train", and others "validation" and "test"."""
    parts: dict[str, list[Dialogue]] = {"train": [], "validation": [], "test": []}
    for question, words in _QUESTIONS.items():
        for number, pair in enumerate(words.split(", ")):
            word, _, answer = pair.rpartition(" ")
            messages = Message("user", question.format(word.replace("_", " "))), Message("assistant", answer.upper())
            parts[_TENTHS.get(number % 10, "train")].append(Dialogue(messages, f"one-word, {messages[0].content}"))
    return parts
