"""Words that the direction parser knows by their part in a sentence: data.

What the words of the lexicon mean is in `forecast.lexicon`; these decide whether they count, and
what is turned round, caused or only checked by the words beside them.
"""

MODALS = frozenset(
    """
    will would shall should may might can could must to not cannot can't won't also then soon
    again help likely probably still and or expected
    """.split()
)
"""may stand before a verb in its base form"""
MODAL_VERBS = frozenset("will would shall should may might can could must won't".split())
BE = frozenset("be been being is was are were".split())
NEEDS_MODAL = frozenset(
    """
    defeat launch strike rocket release back open close end start lead trail stop top land save
    hit fix clear free charge firm cool warm thin dry stall cap bar bin complete edge seal
    hammer support leave stay return trust light bust ban deposit progress control move remain
    approach order split contract fire flood drain shelter cure batter buckle tank sour suffer
    found jam dip spike leak
    """.split()
)
"""verbs that are something else more often: their base form counts only after one of MODALS"""
IGNORED = frozenset("closing opening leading lead-up charged".split())
NEGATORS = frozenset(
    """
    avoid avoids avoided avoiding avert averts averted not never no without neither nor n't
    cannot can't won't don't doesn't didn't isn't aren't wasn't weren't wouldn't couldn't
    shouldn't unlikely hardly barely unable stops
    """.split()
)
NEGATING_VERBS = frozenset(
    """
    fail fails failed failing refuse refuses refused decline declines declined struggle
    struggles struggled unable unlikely reluctant
    """.split()
)
"""negate the verb after `to`"""
CAUSES = frozenset(
    """
    because after amid following despite as since on due owing thanks when while if unless given
    """.split()
)
"""begin a clause that says why"""
STOPPING = frozenset("stop stops stopped cease ceases ceased".split())
"""negate a verb in -ing"""
LIFT = frozenset("lift lifts lifted lifting".split())
BURDENS = frozenset(
    """
    ban bans order orders warning warnings emergency curfew restrictions restriction siege
    sanctions lockdown alert alerts limits limit suspension embargo cordon blockade state
    tariffs cap
    """.split()
)
"""to lift one of these is to end it"""
ENDING = frozenset(
    """
    end ends ended ending halt halts halted halting stop stops stopped stopping lift lifts
    lifted lifting ease eases eased easing erase erases erased erasing pare pares pared paring
    trim trims trimmed trimming reverse reverses reversed reversing snap snaps snapped scrap
    scraps scrapped scrapping lose loses lost losing narrow narrows narrowed narrowing cut cuts
    cutting reduce reduces reduced reducing curb curbs curbed recoup recoups recouped drop drops
    dropped break breaks broke broken stem stems stemmed overcome overcomes overcame shake
    shakes shook defy defies defied hinder hinders hindered hamper hampers hampered prevent
    prevents prevented cancel cancels cancelled canceled rescind rescinds rescinded revoke
    revokes revoked remove removes removed repeal repeals repealed abolish abolishes abolished
    calm calms calmed allay allays allayed soothe soothes soothed suspend suspends suspended
    postpone postpones postponed block blocks blocked quash quashes quashed delay delays delayed
    defuse defuses call calls called
    """.split()
)
"""turn the sense of what they end"""
LASTING = frozenset(
    """
    start starts started begin begins began resume resumes resumed resuming renew renews renewed
    continue continues continued remain remains remained stay stays stayed persist persists
    persisted linger lingers lingered keep keeps kept
    """.split()
)
"""are as good or bad as what begins or lasts"""
REACHING = frozenset(
    """
    pass passes passed reach reaches reached top tops topped hit hits clear clears cleared
    """.split()
)
"""say more before a number"""
COPULAR = frozenset(
    """
    close closes closed end ends ended finish finishes finished open opens opened start starts
    started begin begins began stay stays stayed remain remains remained keep keeps kept break
    breaks broke broken hold holds held
    """.split()
)
STATES = frozenset(
    """
    higher lower up down above below flat ahead behind weaker stronger firmer softer unchanged
    steady closed shut suspended grounded stalled halted blocked jailed trapped stranded
    """.split()
)
"""after a copular verb they say it all: to close lower is not to close"""
STRIKE = frozenset("strike strikes struck striking".split())
DEALS = frozenset("deal deals agreement accord pact truce bargain compromise".split())
"""to strike one of these is no attack"""
BREAK = frozenset("break breaks broke broken breaking smash smashes smashed".split())
RECORDS = frozenset("record records".split())
"""to break one of these is no damage"""
COMPOUNDS = frozenset(
    """
    tower pad window site director vehicle alarm brigade chief crews engine station
    """.split()
)
"""make the word before them part of a name: launch tower, fire chief"""
BAD = frozenset(
    """
    unemployment joblessness outage outages blackout blackouts fear fears worry worries death
    deaths toll casualties cases infections hospitalisations hospitalizations deficit deficits
    debt risk risks threat threats danger tension tensions violence unrest fire fires blaze
    blazes wildfire flood floods floodwater floodwaters drought famine hunger crisis strike
    strikes walkout walkouts ban bans curfew sanctions warning warnings alert alerts emergency
    restrictions outbreak outbreaks pollution smog damage loss losses slump slide rout decline
    crime injuries layoffs defaults bankruptcies arrears veto siege blockade lockdown backlog
    delays shortage shortages smoke leak spill poverty claims streak turmoil panic selloff
    sell-off stoppage shutdown embargo boycott heatwave skid administration bankruptcy eruption
    probe charges clashes attack attacks war hostilities protests riots lawsuit inquiry
    recession crackdown
    """.split()
)
GOOD = frozenset(
    """
    power supply supplies output jobs hope hopes support confidence profit profits revenue sales
    growth strength momentum contact control ground trust gain gains rally advance lead optimism
    turnout ratings morale access aid shares stocks earnings exports
    """.split()
)
"""nouns whose more is bad, or good, for whom it concerns"""
WINS = frozenset(
    """
    beat beaten beats beating defeat defeats defeated overcome overcame overcomes edge edged
    edges thrash thrashed thrashes rout routed trounce trounced stun stunned stuns outclass
    outclassed downed oust ousts ousted unseat unseats unseated overtake overtakes overtook
    eliminate eliminates eliminated win wins won triumph triumphs triumphed clinch clinches
    clinched top tops topped outpoint outpoints outpointed upset upsets dethrone dethrones
    dethroned sweep sweeps swept prevail prevails prevailed hammer hammered crush crushes
    crushed outlast outlasts outscore outscores outscored overpower overpowers overpowered
    demolish demolishes demolished overhaul overhauls overhauled outclasses outrun outruns
    outran knock knocks knocked
    """.split()
)
TAKES = frozenset("take takes took claim claims claimed seal seals sealed secure secures".split())
PRIZES = frozenset("victory title gold win crown championship series lead seat".split())
"""who takes one of these wins"""
DEFEATED = frozenset(
    """
    lose loses lost fall falls fell bow bows bowed concede concedes succumb succumbs
    """.split()
)
"""the loser stands before them, the winner after `to`"""
TRAIL = frozenset("trail trails trailed behind".split())
COMMON = frozenset(
    """
    the and for with from over against tomorrow today final match game cup league title race
    world champions championship series victory points point goals goal sets set election vote
    tonight sunday monday tuesday wednesday thursday friday saturday its his her their grand
    prix open seat party round
    """.split()
)
"""capitalised or not, no names of contestants"""
