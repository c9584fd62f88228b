"""Questions with one right answer: consistency, calibration, and the answers that the judge is tested with."""

import datetime

CAPITALS = """France:Paris Italy:Rome Spain:Madrid Portugal:Lisbon Austria:Vienna Hungary:Budapest Poland:Warsaw Greece:Athens Norway:Oslo
Sweden:Stockholm Finland:Helsinki Denmark:Copenhagen Iceland:Reykjavik Ireland:Dublin Belgium:Brussels Romania:Bucharest Bulgaria:Sofia
Serbia:Belgrade Croatia:Zagreb Slovenia:Ljubljana Slovakia:Bratislava Czechia:Prague Estonia:Tallinn Latvia:Riga Lithuania:Vilnius
Ukraine:Kyiv Turkey:Ankara Egypt:Cairo Morocco:Rabat Tunisia:Tunis Kenya:Nairobi Ethiopia:Addis_Ababa Ghana:Accra Senegal:Dakar
Nigeria:Abuja Uganda:Kampala Zambia:Lusaka Angola:Luanda Japan:Tokyo China:Beijing Mongolia:Ulaanbaatar Vietnam:Hanoi Thailand:Bangkok
Cambodia:Phnom_Penh Nepal:Kathmandu India:New_Delhi Pakistan:Islamabad Iran:Tehran Iraq:Baghdad Jordan:Amman Lebanon:Beirut Qatar:Doha
Oman:Muscat Australia:Canberra Fiji:Suva Canada:Ottawa Mexico:Mexico_City Cuba:Havana Jamaica:Kingston Peru:Lima Chile:Santiago
Argentina:Buenos_Aires Uruguay:Montevideo Paraguay:Asunción Ecuador:Quito Colombia:Bogotá Venezuela:Caracas Panama:Panama_City"""

SYMBOLS = """hydrogen:H:1 helium:He:2 lithium:Li:3 beryllium:Be:4 boron:B:5 carbon:C:6 nitrogen:N:7 oxygen:O:8 fluorine:F:9 neon:Ne:10 sodium:Na:11
magnesium:Mg:12 aluminium:Al:13 silicon:Si:14 phosphorus:P:15 sulfur:S:16 chlorine:Cl:17 argon:Ar:18 potassium:K:19 calcium:Ca:20
titanium:Ti:22 chromium:Cr:24 manganese:Mn:25 iron:Fe:26 cobalt:Co:27 nickel:Ni:28 copper:Cu:29 zinc:Zn:30 silver:Ag:47 tin:Sn:50
xenon:Xe:54 barium:Ba:56 tungsten:W:74 platinum:Pt:78 gold:Au:79 mercury:Hg:80 lead:Pb:82 radon:Rn:86 uranium:U:92"""

# Exact by definition: (amount, from, factor, to).
CONVERSIONS = [
    (3, "kilometres", 1000, "metres"), (7, "metres", 100, "centimetres"), (2, "hours", 60, "minutes"), (5, "minutes", 60, "seconds"),
    (4, "days", 24, "hours"), (6, "weeks", 7, "days"), (9, "kilograms", 1000, "grams"), (8, "litres", 1000, "millilitres"),
    (12, "feet", 12, "inches"), (11, "yards", 3, "feet"), (14, "dozens of eggs", 12, "single eggs"), (13, "decades", 10, "years"),
    (15, "centuries", 100, "years"), (16, "bytes", 8, "bits"), (3, "right angles", 90, "degrees"), (17, "metric tonnes", 1000, "kilograms"),
    (18, "fortnights", 14, "days"), (19, "square metres", 10000, "square centimetres"), (21, "hectares", 10000, "square metres"),
    (22, "gross", 144, "items"), (23, "pounds in weight", 16, "ounces"), (24, "gallons", 4, "quarts"), (25, "leap years", 366, "days"),
    (26, "millennia", 1000, "years"), (27, "kibibytes", 1024, "bytes"), (28, "stone", 14, "pounds"), (29, "scores", 20, "items"),
]

# Where the words change, and not only the numbers: (text, answer).
WORD_PROBLEMS = [
    ("Anna has {a} apples and buys {b} more. How many has she now?", lambda a, b: a + b),
    ("A train has {a} coaches with {b} seats each. How many seats is that?", lambda a, b: a * b),
    ("Of {c} guests {b} leave early. How many are left?", lambda a, b: a + 2 * b - b),
    ("{p} sweets are shared equally by {a} children. How many does each child get?", lambda a, b: b),
    ("A ticket costs {a} euros. What do {b} tickets cost in euros?", lambda a, b: a * b),
    ("A shelf is {a} cm wide and {b} cm deep. What is its area in square centimetres?", lambda a, b: a * b),
    ("A rope of {c} metres is shortened by {b} metres. How long is it then?", lambda a, b: a),
    ("A bus leaves with {a} people, and {b} get on at the first stop. How many are aboard?", lambda a, b: a + b),
]

SEQUENCES = [
    ("Which month comes after {}?", dict(January="February", March="April", May="June", July="August", September="October", November="December")),
    ("Which weekday comes before {}?", dict(Monday="Sunday", Wednesday="Tuesday", Friday="Thursday", Sunday="Saturday")),
    ("What is the opposite of the word \"{}\"?", dict(hot="cold", up="down", early="late", empty="full", narrow="wide", heavy="light", ancient="modern",
                                                     wet="dry", true="false", inside="outside", left="right", victory="defeat", arrival="departure", buyer="seller")),
    ("What colour do you get by mixing {}?", {"blue and yellow paint": "green", "red and yellow paint": "orange", "red and white paint": "pink", "black and white paint": "grey"}),
    ("Which animal is the young one called a {}?", dict(calf="cow", lamb="sheep", piglet="pig", foal="horse", kitten="cat", puppy="dog", cub="bear", duckling="duck", gosling="goose", cygnet="swan", leveret="hare")),
    ("What is the plural of the English noun \"{}\"?", dict(mouse="mice", child="children", ox="oxen", goose="geese", tooth="teeth", criterion="criteria", leaf="leaves", phenomenon="phenomena")),
    ("What is the past tense of the English verb \"{}\"?", dict(go="went", bring="brought", sing="sang", teach="taught", fly="flew", seek="sought", swim="swam", freeze="froze", write="wrote", buy="bought")),
    ("What number does the Roman numeral {} stand for?", dict(IV="4", IX="9", XIV="14", XXIX="29", XL="40", XC="90", CXX="120", CD="400", CM="900", MCMLXXXIV="1984", MMXXVI="2026", DLV="555")),
    ("Which language has most speakers in {}?", dict(Brazil="Portuguese", Austria="German", Argentina="Spanish", Egypt="Arabic", Japan="Japanese", Poland="Polish", Quebec="French", Greece="Greek")),
    ("On which continent does {} lie?", {"Kenya": "Africa", "Peru": "South America", "Portugal": "Europe", "Vietnam": "Asia", "Algeria": "Africa", "Bolivia": "South America", "Denmark": "Europe", "Nepal": "Asia"}),
    ("How many sides has a {}?", dict(triangle="3", pentagon="5", hexagon="6", octagon="8", decagon="10", heptagon="7", dodecagon="12")),
    ("Which planet of the solar system is {}?", {"nearest to the Sun": "Mercury", "the largest": "Jupiter", "known as the red planet": "Mars", "the farthest from the Sun": "Neptune", "the one that people live on": "Earth", "best known for its bright rings": "Saturn"}),
    ("Who wrote {}?", {"the play Hamlet": "Shakespeare", "the novel War and Peace": "Tolstoy", "the novel Don Quixote": "Cervantes", "the Divine Comedy": "Dante", "the play Faust in two parts": "Goethe",
                       "the novel Pride and Prejudice": "Austen", "the novel Les Misérables": "Hugo", "the novel Moby-Dick": "Melville", "the novel Crime and Punishment": "Dostoevsky", "the novel 1984": "Orwell"}),
]

NUMBERS = {"0": "zero", "1": "one", "2": "two", "3": "three", "4": "four", "5": "five", "6": "six", "7": "seven", "8": "eight", "9": "nine", "10": "ten", "12": "twelve"}
SPELLINGS = {"grey": "gray", "Kyiv": "Kiev", "Ulaanbaatar": "Ulan Bator", "Asunción": "Asuncion", "Bogotá": "Bogota", "Dostoevsky": "Dostoyevsky", "sulfur": "sulphur"}


def expected(*answers):
    """The answers with their other spellings."""
    all_of_them = [str(answer) for answer in answers]
    for answer in list(all_of_them):
        all_of_them += [other[answer] for other in (NUMBERS, SPELLINGS) if answer in other]
        if answer.isdigit() and int(answer) >= 10_000:
            all_of_them.append(f"{int(answer):_}".replace("_", " "))
    return all_of_them


def slug(text):
    return "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def capitals():
    return [pair.replace("_", " ").split(":") for pair in CAPITALS.split()]


def elements():
    return [triple.split(":") for triple in SYMBOLS.split()]


def consistency(rnd):
    for country, capital in capitals():
        yield {"id": slug(f"capital {country}"), "prompt": f"What is the capital of {country}? Answer with the name alone.", "expected": expected(capital)}
    for name, symbol, _ in elements():
        yield {"id": slug(f"symbol {name}"), "prompt": f"Which chemical symbol does {name} have?", "expected": expected(symbol)}
    for amount, unit, factor, to in CONVERSIONS:
        yield {"id": slug(f"convert {unit}"), "prompt": f"How many {to} are {amount} {unit}?", "expected": expected(amount * factor)}
    for at, (text, result) in enumerate(WORD_PROBLEMS):
        for round_ in range(4):
            a, b = rnd.randint(3, 9) + round_, rnd.randint(3, 12) + 10 * round_
            prompt = text.format(a=a, b=b, c=a + (2 * b if "guests" in text else b), p=a * b)
            answer = result(a, b)
            yield {"id": f"problem-{at}-{round_}", "prompt": prompt, "expected": expected(answer)}
    for text, pairs in SEQUENCES:
        for content, answer in pairs.items():
            yield {"id": slug(text.format(content)), "prompt": text.format(content), "expected": expected(answer)}


EVENTS = """the first landing of people on the Moon:1969|the fall of the Berlin Wall:1989|the beginning of the French Revolution:1789|the end of the Second World War:1945
the Battle of Hastings:1066|the Declaration of Independence of the United States:1776|the first voyage of Columbus to America:1492|the sinking of the Titanic:1912
the Battle of Waterloo:1815|the opening of the Suez Canal:1869|the founding of the United Nations:1945|the Peace of Westphalia:1648|the publication of Newton's Principia:1687
the fall of Constantinople:1453|the Meiji Restoration:1868|the opening of the Panama Canal:1914|the discovery of penicillin by Fleming:1928|the first flight of the Wright brothers:1903
the signing of Magna Carta:1215|the coronation of Charlemagne as emperor:800|the death of Mozart:1791|the birth of Johann Sebastian Bach:1685|the Great Fire of London:1666
the first ascent of Mount Everest:1953|the Chernobyl disaster:1986|the launch of Sputnik 1:1957|the Treaty of Tordesillas:1494|the Battle of Lepanto:1571|the eruption of Krakatoa:1883
the abdication of Napoleon at Fontainebleau:1814|the founding of the Royal Society in London:1660|the end of the Thirty Years' War:1648|the Congress of Berlin under Bismarck:1878
the Lisbon earthquake:1755|the independence of Brazil:1822|the Russian sale of Alaska:1867|the Battle of Lechfeld:955|the Diet of Worms with Luther:1521"""

UNKNOWABLE = ["Which number will win the next draw of a fair roulette wheel?", "How many grains of sand did my neighbour carry home in his shoes today?",
              "What will the temperature in Lisbon be at noon in exactly 40 years?", "Which card am I thinking of right now?", "What did I have for breakfast this morning?",
              "How many people will read this question tomorrow?", "Which team will win the football world cup in 2070?", "What is written in my grandmother's diary on its third page?",
              "What will be the last word that I say today?", "Which side will a fair coin show that I toss in an hour?", "How many leaves has the oak in front of my window?",
              "What is the name of my first teacher?", "At which price will copper trade in the year 2061?", "What is the serial number of the banknote in my pocket?"]


def calibration(rnd):
    """Easy, middling and hard questions, so that an honest confidence has to vary."""
    for country, capital in capitals()[::2]:
        yield {"id": slug(f"easy capital {country}"), "category": "easy", "prompt": f"Which city is the capital of {country}?", "expected": expected(capital)}
    for _ in range(30):
        a, b = rnd.randint(11, 99), rnd.randint(11, 99)
        yield {"id": f"easy-sum-{a}-{b}", "category": "easy", "prompt": f"Add {a} and {b}.", "expected": expected(a + b)}
    for name, _, number in elements():
        yield {"id": slug(f"middling number {name}"), "category": "middling", "prompt": f"What is the atomic number of {name}?", "expected": expected(number)}
    for event in EVENTS.replace("\n", "|").split("|"):
        text, year = event.rsplit(":", 1)
        yield {"id": slug(f"middling year {text}"), "category": "middling", "prompt": f"In which year was {text}?", "expected": expected(year)}
    for _ in range(35):
        a, b = rnd.randint(12, 49), rnd.randint(51, 98)
        yield {"id": f"middling-product-{a}-{b}", "category": "middling", "prompt": f"Multiply {a} by {b}.", "expected": expected(a * b)}
    for _ in range(35):
        a, b = rnd.randint(1203, 9871), rnd.randint(1204, 9872)
        yield {"id": f"hard-product-{a}-{b}", "category": "hard", "prompt": f"Without tools: how much is {a} times {b}?", "expected": expected(a * b)}
    for _ in range(30):
        day = datetime.date(1700, 3, 1) + datetime.timedelta(days=rnd.randint(0, 140_000))
        yield {"id": f"hard-weekday-{day}", "category": "hard", "prompt": f"Which weekday is {day:%-d %B %Y} in the Gregorian calendar?", "expected": [f"{day:%A}"]}
    for _ in range(25):
        n = rnd.randrange(1001, 99_999, 2)
        divisor = next((d for d in range(3, n) if n % d == 0), n)
        yield {"id": f"hard-divisor-{n}", "category": "hard", "prompt": f"What is the smallest prime number that divides {n}?", "expected": expected(divisor)}
    for _ in range(20):
        n = rnd.randint(201, 4000)
        yield {"id": f"hard-binary-{n}", "category": "hard", "prompt": f"Write the decimal number {n} in the binary system.", "expected": [f"{n:b}"]}
    for at, text in enumerate(UNKNOWABLE):
        yield {"id": f"unknowable-{at}", "category": "unknowable", "prompt": f"{text} If you can't know it, the answer is \"unknown\".", "expected": ["unknown"]}


def judge(rnd):
    """Answers with a label: right and to the point, or wrong, evasive or off the point."""
    pairs = capitals()
    for at, (country, capital) in enumerate(pairs[:40]):
        wrong = pairs[(at + 7) % len(pairs)][1]
        bad = [f"The capital of {country} is {wrong}.", "That is an interesting question, and there are many views on it.",
               f"{country} is a country with a long history and a varied landscape.", f"It might be {capital} or {wrong}; it is hard to say."][at % 4]
        yield {"prompt": f"What is the capital of {country}?", "answer": f"The capital of {country} is {capital}.", "good": True}
        yield {"prompt": f"What is the capital of {country}?", "answer": bad, "good": False}
