"""What the synthetic speech says: common English words and invented ones, never a digit.

The ten digit words and everything that sounds like one (to, too, for, won, ate, ...) are left out, so that a benchmark
on spoken digits stays unseen by a model that was pretrained on this speech.
"""

from __future__ import annotations

import numpy as np


def listed(text: str, separator: str | None = None) -> tuple[str, ...]:
    """Items of `text`, separated by white space or by `separator`, their inner white space made single."""
    return tuple(" ".join(item.split()) for item in text.split(separator))


DIGIT_WORDS = frozenset(
    listed(
        """
    zero one two three four five six seven eight nine oh nought won wun wan uan to too tu tue tou toa tuo for fore faw
    fo foa fou foo ate et ait sicks siks sics sik sikes sick nein nain nayn noin nien nin fife fiv fyve tree thri free
    sevn seben sevun sevan ziro zeero siro zee
    """
    )
)

WORDS = listed(
    """
    able about above across action after again age agree air all almost along also always among animal another
    answer apple april arm army around arrive art ask aunt autumn away baby back bad bag bake ball banana band bank
    bath beach bear beat beauty because become bed been begin behind believe bell below best better between bird
    birthday bite black blue board boat body bone book born both bottle bottom bowl box boy brave bread break breath
    bridge bright bring brother brown brush build burn bus busy butter button buy cake call camera camp candle cap
    captain car card care carry cat catch chair chalk chance change cheap cheese chicken child choice choose church
    circle city clean clear climb clock close cloth cloud coat coffee cold colour come common cook cool copper corn
    corner cotton cough could count country courage course cover cow cream cross crowd cry cup curtain cut dance
    danger dark daughter day deaf dear december deep desk different dinner dirty doctor dog dollar door double down
    draw dream dress drink drive drop dry duck dust each eagle ear early earth east easy eat edge egg elbow electric
    empty end engine enjoy enough evening every example eye face fact fair fall family famous far farm fast father
    feather feel fence field fight fill film find finger finish fire fish flag flame floor flower fly follow food
    foot forest forget fox fresh friend frog fruit full funny garden gas gate gentle ghost giant gift girl give glad
    glass glove go goat gold good goose grape grass great green ground group grow guess guitar hair half hammer hand
    happy harbour hard hat have head hear heart heavy hello help here high hill history hold hole holiday home honey
    hope horse hospital hot hour house how huge hundred hungry hurry ice idea important inside iron island jacket
    jam january job join joke journey judge juice july jump june just keep kettle key kick king kiss kitchen knee
    knife know lady lake lamp language large last laugh law lazy leaf learn leather left leg lemon lesson letter
    library lie light lion listen little long look loud love low lucky lunch machine magic make many map march
    market matter may meal measure meat medicine meet melt mile milk mind minute mirror money monkey month moon
    morning mother mountain mouse mouth move much mud music name narrow nature near neck needle neighbour nest never
    new news night noise north nose number nurse ocean october off offer office oil old onion only open orange other
    out oven over owl paint pair paper parent park party past path peace pen pencil people pepper perfect person
    photo picture piece pig pink place plain plane plate play please pleasure pocket poem point police poor potato
    power present pretty price prison problem pull pupil purple push queen question quick quiet rabbit radio rain
    reach read ready reason record red remember rest rice rich ride right ring river road rock roof room root rope
    rose rough round rule run sad safe sail salt same sand saturday school science sea season second secret see seed
    sell send shade shape share sharp she sheep shelf ship shirt shoe shop short shout show shut side silver simple
    sing sister sit size skin sky sleep slow small smell smile smoke snow soap soft some song soon sorry sound soup
    south space speak spell spoon sport spring square stairs star start station stay steal stone stop storm story
    strange street string strong student sugar summer sun sure surprise sweet swim table tail take talk tall taste
    taxi teach team tear telephone television tell temple thank that theatre there thick thin thing think thirsty
    thought thousand thumb thunder tiger time tired together tomato tongue tooth touch towel tower town toy trade
    train travel treasure trouble true trust try turn twelve ugly umbrella uncle under until up use valley value
    vegetable very video village violin visit voice wait walk wall want war warm wash watch water way weather week
    welcome west wet whale what wheel where which whistle white who why wide wild will win window winter wish with
    woman wood wool word work world worry wrong yard year yellow yes yesterday yet young zebra zoo
    """
)

PHRASES = listed(
    """
    good morning | thank you | see you soon | how are you | where is it | over there | come here please | open the
    door | the weather is fine | a cup of coffee | turn off the light | what is your name | my favourite colour |
    every other day | in the garden | on the table | read the letter | she likes music | the quick brown fox | happy
    birthday | under the bridge | the old stone house | a long journey | wait a minute | I agree | we could walk |
    nobody knows | the river is deep | bread and butter | salt and pepper | up and down | left or right | the king
    and queen | never mind | as soon as possible | at the station | last summer | very good | not again | go home
    """,
    "|",
)

ONSETS = listed(
    "b d f g h j k l m n p r s t v w y z bl br ch cl cr dr fl fr gl gr kw pl pr sh sk sl sm sn sp st sw th tr"
)
NUCLEI = listed("a e i o u a e i o u ai ee oa oo ou oi ar er")
CODAS = listed("b d f g k l m n p s t v z ch sh ng nd nt st sk lp ks th")


def pseudo_word(rng: np.random.Generator) -> str:
    """One to three invented syllables (CV or CVC), spelt; never a digit word or one of its homophones."""
    while True:
        word = ""
        for _ in range(int(rng.choice([1, 2, 2, 3]))):
            word += str(rng.choice(ONSETS)) + str(rng.choice(NUCLEI))
            word += str(rng.choice(CODAS)) if rng.random() < 0.45 else ""
        if word not in DIGIT_WORDS:
            return word


def utterance(rng: np.random.Generator) -> str:
    """A text of one short utterance: a word (50 %), an invented word (25 %), two words (15 %) or a phrase (10 %)."""
    kind = rng.random()
    if kind < 0.5:
        return str(rng.choice(WORDS))
    if kind < 0.75:
        return pseudo_word(rng)
    if kind < 0.9:
        return f"{rng.choice(WORDS)} {rng.choice(WORDS)}"
    return str(rng.choice(PHRASES))
