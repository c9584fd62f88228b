"""Questions that ask for an explanation: quality. Each has the words that a good explanation mentions."""

# subject: words of a good answer
SUBJECTS = """photosynthesis: light, carbon dioxide, oxygen
the water cycle: evaporation, rain, clouds
gravity: mass, force
a database index: search, table, column
a hash function: input, fixed, output
public-key cryptography: private, public, key
the TCP handshake: SYN, ACK, connection
a neural network: layers, weights, training
gradient descent: minimum, step, gradient
overfitting of a model: training, data, new
a binary search: sorted, half
recursion in programming: function, itself, base
a load balancer: servers, traffic, requests
a canary release: users, version, small
version control with git: commit, branch, history
continuous integration: build, test, merge
a container image: layers, application, dependencies
a message queue: producer, consumer, messages
DNS: name, address, server
HTTPS: certificate, encryption, browser
an SQL join: tables, rows, column
garbage collection in programming languages: memory, objects, unused
a deadlock: lock, wait, threads
a cache: fast, memory, data
the CAP theorem: consistency, availability, partition
eventual consistency: replicas, time, same
a compiler: source, code, machine
an interpreter: line, program, executes
unit testing: function, test, expected
code review: colleagues, code, errors
inflation: prices, money, rise
compound interest: interest, principal, time
supply and demand: price, quantity, market
a central bank: interest, money, currency
a mortgage: house, loan, bank
insurance: risk, premium, loss
a stock index: shares, companies, market
diversification of investments: risk, different, assets
gross domestic product: goods, services, country
a budget deficit: spending, revenue, government
vaccination: immune, antibodies, disease
how the human heart pumps: blood, chambers, valves
digestion: stomach, intestine, nutrients
how kidneys work: blood, urine, filter
antibiotic resistance: bacteria, drugs, survive
how sleep helps memory: brain, memory, night
how vision works: eye, retina, brain
type 2 diabetes: insulin, sugar, blood
allergies: immune, harmless, reaction
DNA: genes, bases, cells
evolution by natural selection: survive, offspring, traits
plate tectonics: plates, earthquakes, crust
volcanoes: magma, eruption, gas
tides: moon, gravity, water
seasons of the year: axis, tilt, sun
a solar eclipse: moon, sun, shadow
the greenhouse effect: heat, atmosphere, gases
ocean acidification: carbon dioxide, water, shells
biodiversity: species, ecosystem, variety
pollination: flowers, bees, pollen
soil erosion: water, wind, plants
composting: organic, bacteria, soil
nuclear fission: nucleus, energy, neutrons
nuclear fusion in stars: hydrogen, helium, energy
electric current: electrons, voltage, wire
a transformer in the power grid: voltage, coil, current
how a battery stores energy: electrons, anode, cathode
a heat pump: heat, outside, refrigerant
how a refrigerator cools: heat, gas, compressor
an internal combustion engine: fuel, piston, air
how an aeroplane flies: lift, wings, air
how a sailing boat moves against the wind: sail, keel, wind
how GPS finds a position: satellites, time, distance
radar: waves, reflected, distance
fibre optics: light, glass, signal
how a microwave oven heats food: water, waves, molecules
a rainbow: light, drops, colours
sound: waves, air, pressure
the Doppler effect: frequency, moving, waves
friction: surfaces, force, motion
Archimedes' principle: water, weight, buoyancy
democracy: elections, people, vote
the separation of powers: courts, parliament, government
proportional representation: votes, seats, parties
a constitution: laws, rights, state
habeas corpus: court, detention, judge
copyright: author, work, rights
a patent: invention, inventor, years
the presumption of innocence: guilt, proof, court
a contract: agreement, parties, law
the Industrial Revolution: machines, factories, steam
the Renaissance: art, Italy, antiquity
the Silk Road: trade, Asia, goods
the Hanseatic League: trade, cities, Baltic
the Black Death: plague, Europe, population
the Roman aqueducts: water, cities, arches
the invention of printing: Gutenberg, books, letters
feudalism: lords, land, service
the Enlightenment: reason, science, philosophers
decolonisation: independence, colonies, empires
a sonnet: lines, rhyme, poem
a metaphor: comparison, meaning, words
perspective in painting: distance, lines, depth
a fugue in music: theme, voices, counterpoint
the pentatonic scale: five, notes, music
stage lighting in the theatre: actors, mood, light
how bread rises: yeast, gas, dough
caramelising onions: sugar, heat, slow
fermenting cabbage: salt, bacteria, acid
pasteurising milk: heat, bacteria, temperature
tempering chocolate: temperature, crystals, cocoa
how an emulsion such as mayonnaise holds: oil, egg, drops
offside in football: defender, ball, goal
castling in chess: king, rook, squares
how yeast makes beer: sugar, alcohol, malt
interval training: intensity, rest, heart
a cover letter for a job: experience, skills, employer
a project retrospective: team, improve, past
active listening: attention, speaker, questions
the Eisenhower matrix: urgent, important, tasks
double-entry bookkeeping: debit, credit, account
a break-even analysis: costs, revenue, profit
a supply chain: suppliers, goods, customers
just-in-time production: stock, parts, demand
a randomised controlled trial: groups, chance, treatment
a confidence interval: sample, estimate, range
the placebo effect: treatment, patients, expectation
correlation and causation: variables, cause, related
the law of large numbers: average, many, expected
Bayes' theorem: probability, evidence, prior
a prime number: divided, one, itself
the Pythagorean theorem: triangle, right, squares"""

FORMS = [
    ("explain", "Explain {} to a beginner in a few sentences."),
    ("why", "A friend asked me about {}, and I had no answer. Tell me in short what it is and why it matters."),
]


def slug(text):
    return "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def quality(_):
    for line in SUBJECTS.splitlines():
        subject, words = line.rsplit(": ", 1)
        for name, form in FORMS:
            yield {"id": f"{name}-{slug(subject)}", "prompt": form.format(subject), "topics": words.split(", ")}
