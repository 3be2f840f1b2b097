"""Words that say which way things go, in pairs of opposites: data, and their inflections.

Each pair has a sense, two numbers for its first word (the second word has the opposite ones):
level (more +1, less -1) and valence (goes well +1, goes badly -1). "Spread" is more of something
bad, (+1, -1); "contain" its opposite. Two texts agree when their senses point the same way, so
that "spreads" agrees with "worsens" and with "rises" without a table of synonyms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

LEXICON_VERSION = "lexicon-3"

LEVEL, VALENCE = (1.0, 0.0), (0.0, 1.0)
WEAK = (0.0, 0.3)
"""says that something goes on or begins: good or bad is for the words beside it to say"""
GOOD_MORE, BAD_MORE = (1.0, 1.0), (1.0, -1.0)
"""more of something good; more of something bad"""

VERBS: dict[tuple[float, float], str] = {
    LEVEL: """
        rise:fall climb:slide increase:decrease raise:lower jump:drop surge:plunge soar:tumble
        hike:cut lift:trim heighten:reduce ascend:descend grow:shrink expand:contract
        widen:narrow accelerate:slow swell:dwindle add:shed hire:fire quicken:slacken
        exceed:undershoot double:halve multiply:diminish lengthen:shorten tighten:loosen
        edge_up:edge_down go_up:go_down come_up:come_down move_up:move_down tick_up:tick_down
        creep_up:creep_down inch_up:inch_down push_up:push_down drive_up:drive_down
        scale_up:scale_down ramp_up:wind_down step_up:scale_back speed_up:slow_down top:undercut
        outpace:lag appreciate:depreciate inflate:deflate warm:cool thicken:thin deepen:ease
        ratchet_up:ratchet_down shoot_up:drop_off pick_up:tail_off rocket:crash spike:dip
        leap:sink mount:wane spiral:subside build_up:run_down strengthen:weaken swell:ebb
        fatten:erode boost:dent bolster:undermine elevate:depress upgrade:downgrade
        restock:deplete firm:soften brighten:dim outstrip:lag_behind stockpile:run_down
        overshoot:undershoot gallop:crawl hasten:slow escalate:wind_down gather_pace:lose_pace
        gather_speed:lose_speed pick_up_speed:lose_speed revise_up:revise_down
        mark_up:mark_down scale_up:scale_back build_up:draw_down
        stretch:shrink multiply:dwindle proliferate:dwindle enlarge:shrink amplify:dampen
        magnify:dampen rekindle:dampen stoke:dampen spur:curb fuel:curb stimulate:restrain
        intensify:dissipate top:fall_short_of""",
    GOOD_MORE: """
        gain:lose advance:retreat rally:slump rebound:relapse recover:deteriorate bounce:sag
        flourish:wither thrive:languish prosper:struggle strengthen:falter
        outperform:underperform perk_up:crumble revive:collapse buoy:batter
        bounce_back:fall_back extend:curtail prolong:curtail beat:miss lead:trail
        overtake:trail_behind pull_ahead:fall_behind accumulate:forfeit attract:repel
        gain_ground:lose_ground
        gain_momentum:lose_momentum gain_strength:lose_strength gather_strength:lose_strength
        gain_altitude:lose_altitude pull_clear:fall_back surge_ahead:drop_back
        power_ahead:slip_back come_from_behind:throw_away rise_to_the_occasion:choke
        turn_profitable:slip_into_loss top:lag""",
    BAD_MORE: """
        spread:contain escalate:de-escalate intensify:abate worsen:improve flare:calm
        flare_up:die_down rage:subside erupt:quieten swell:recede mount:recede overflow:drain
        inflame:defuse explode:fizzle engulf:spare strand:rescue displace:shelter
        evacuate:return flood:dry break_out:fizzle_out mutate:vanish aggravate:alleviate
        infect:cure lose_control:regain_control burn_through:burn_out
        bear_down:veer_away close_in:move_away strike_down:spare jump_the_line:stay_within
        rage_on:die_out batter:spare lash:spare drench:spare 
        make_landfall:veer_away burst_its_banks:stay_within_its_banks
        overtop:stay_below radicalise:deradicalise poison:detoxify""",
    WEAK: """
        keep:remove keep:ditch start:stop begin:end continue:cease join:leave stay:resign
        remain:leave complete:abandon finish:abandon enter:quit""",
    VALENCE: """
        win:be_beaten improve:worsen succeed:fail touch_down:crash_land 
        approve:reject pass:block
        accept:refuse adopt:scrap back:oppose support:oppose defend:resist endorse:denounce
        agree:disagree confirm:deny ratify:veto uphold:overturn clear:halt allow:ban
        permit:prohibit grant:withhold authorise:forbid authorize:forbid launch:delay
        resume:suspend open:close reopen:shut proceed:stall 
        restore:disrupt renew:cancel retain:oust unite:split
        reunite:divide reconcile:quarrel settle:dispute sign:tear_up deliver:botch
        qualify:crash_out progress:exit triumph:stumble prevail:succumb defeat:lose_to
        beat:lose_to outclass:bow_to save:surrender acquit:convict free:jail exonerate:charge
        release:arrest release:detain shield:extradite validate:refute replicate:contradict
        prove:disprove confirm:debunk detect:overlook land:abort dock:scrub deploy:withdraw
        lift_off:explode survive:perish survive:die hold_out:give_way rescue:abandon
        protect:endanger heal:sicken comply:defy cooperate:obstruct honour:breach honor:breach
        enact:repeal introduce:abolish appoint:sack reinstate:dismiss re-elect:unseat
        reelect:unseat nominate:snub nod_through:vote_down
        vote_through:vote_down go_ahead:fall_through press_ahead:back_down push_through:shelve
        sail_through:founder greenlight:shelve green-light:shelve
        fast-track:postpone bring_forward:put_off bring_forward:push_back return:stay_away
        vindicate:condemn welcome:criticise welcome:criticize praise:condemn trust:distrust
        acquire:divest merge:demerge buy:sell rehire:lay_off retain:lay_off invest:disinvest
        forgive:punish compromise:dig_in concur:dissent reassure:alarm
        secure:squander overcome:succumb_to score:concede 
        fix:break repair:damage rebuild:demolish reconnect:sever stabilise:destabilise
        stabilize:destabilize reverse:entrench walk_free:go_to_jail call_on:call_off
        green_light:vote_down wave_through:throw_out sign_off:strike_down settle:strike
        reach_a_deal:walk_out show_up:pull_out stick_with:back_out commit:pull_back
        recommend:discourage promote:relegate favour:oppose favor:oppose embrace:spurn
        regain:lose rule_for:rule_against side_with:rule_against
        find_for:find_against rule_in_favour:rule_against topple:prop_up 
        clear:impeach clear:indict acquit:sentence dismiss:uphold uphold:overrule uphold:quash 
        strike_down:uphold uphold:void reinstate:revoke issue:revoke award:strip
        relent:dig_in cave_in:stand_firm yield:stand_firm bow_to:defy give_in:hold_firm
        hold_together:fall_apart stick_together:break_up 
        pull_through:die awaken:sleep reach_orbit:fall_short reconnect:lose_contact
        phone_home:fall_silent ignite:misfire relight:misfire soft-land:crash_land touch_down:crash
        splash_down:miss separate:jam unfurl:jam unfold:jam deploy:jam power_up:power_down
        switch_on:switch_off turn_on:turn_off restore:cut_off kick_off:call_off
        get_under_way:be_postponed go_ahead:be_postponed take_off:be_scrubbed
        go_through:fall_through advance:go_out progress:crash_out reach_the_final:crash_out
        go_through:go_out make_the_cut:miss_the_cut hold_off:lose_to see_off:lose_to
        convert:miss hold_serve:drop_serve level:trail equalise:concede equalize:concede
        hang_on:let_slip hold_on:let_slip see_out:let_slip keep_his_job:lose_his_job
        keep_her_job:lose_her_job survive:be_ousted survive:be_toppled 
        endorse:snub tolerate:crack_down free:sentence parole:detain pardon:sentence
        unlock:withhold unblock:block release:withhold disclose:conceal reveal:conceal
        publish:withhold unveil:shelve sign_up:pull_out opt_in:opt_out buy_into:sell_out
        double_down:back_off press_on:turn_back push_on:turn_back stay_the_course:reverse_course
        make_peace:go_to_war lay_down_arms:take_up_arms honour:violate honor:violate
        observe:violate respect:violate meet_expectations:miss_expectations
        meet_its_goal:miss_its_goal deliver:renege fulfil:break fulfill:break
        evacuate_safely:be_trapped reopen:stay_closed reopen:remain_closed
         plug:leak shore_up:give_way cap:leak """,
}
"""Verbs in their base form; phrases are joined by an underscore and inflected at the first word."""

PLAIN: dict[tuple[float, float], str] = {
    LEVEL: """
        up:down higher:lower upward:downward upwards:downwards above:below more:fewer more:less
        larger:smaller bigger:smaller greater:lesser high:low highs:lows highest:lowest
        hottest:coldest warmest:coolest peak:trough record_high:record_low longer:shorter
        warmer:cooler hotter:colder faster:slower quicker:slower sharper:milder heavier:lighter
        wetter:drier tighter:looser wider:narrower rise:fall rises:falls increase:decrease
        increases:decreases growth:contraction expansion:contraction surge:plunge jump:drop
        hike:cut hikes:cuts surplus:deficit acceleration:slowdown inflow:outflow
        inflows:outflows hawkish:dovish oversupply:shortage glut:shortage abundant:scarce
        ample:scant uptick:downtick upturn:downturn upside:downside elevated:subdued""",
    GOOD_MORE: """
        gain:loss gains:losses rally:slump rallies:slumps boom:bust strong:weak stronger:weaker
        robust:sluggish strongest:weakest strength:weakness recovery:setback rebound:relapse
        improvement:deterioration better:worse best:worst bullish:bearish firm:soft
        firmer:softer buoyant:depressed solid:fragile profit:loss profits:losses healthy:ailing
        ahead:behind upbeat:downbeat optimism:pessimism optimistic:pessimistic leading:trailing
        winner:loser winners:losers bumper:meagre resilient:vulnerable""",
    BAD_MORE: """
        escalation:de-escalation intensifying:abating
        severe:mild deadly:harmless deadlier:milder dangerous:safe critical:minor turmoil:calm
        violence:calm unrest:calm  panic:calm tension:detente
        out_of_control:under_control""",
    VALENCE: """
        victory:defeat victories:defeats win:loss wins:losses success:failure
        successful:unsuccessful successfully:unsuccessfully approval:rejection
        acceptance:refusal agreement:deadlock deal:strike accord:impasse breakthrough:stalemate
        ceasefire:offensive truce:fighting support:opposition favourable:unfavourable
        favorable:unfavorable positive:negative legal:illegal lawful:unlawful innocent:guilty
        acquittal:conviction valid:invalid alive:dead open:closed opening:closure safe:unsafe
        effective:ineffective intact:broken united:divided unanimous:split
        unanimously:narrowly fit:injured available:unavailable survivors:victims
        progress:setback reopening:closure resumption:suspension launch:delay
        renewal:cancellation qualification:elimination promotion:relegation compliant:defiant
        willing:unwilling go-ahead:veto green_light:veto consensus:discord online:offline
        ahead_of_schedule:behind_schedule well_above:well_below
        just_above:just_below well_over:well_under just_over:just_under
        comfortably:narrowly operational:grounded
        cleared:convicted eligible:ineligible
        confirmed:debunked viable:unviable conclusive:inconclusive habitable:uninhabitable
        stable:unstable acclaimed:panned popular:unpopular trusted:distrusted
        productive:fruitless fruitful:fruitless constructive:acrimonious cordial:acrimonious
        credible:dubious flawless:botched smooth:bumpy smoothly:badly """,
}
"""Nouns, adjectives and adverbs, as they stand."""

SINGLE: dict[tuple[float, float], str] = {
    (1.0, 0.0): """
        surpass smash add_to skyrocket balloon surge_past pour_in triple quadruple""",
    (-1.0, 0.0): """
        slash shave erase pare taper melt vaporise evaporate slip decline retract plummet
        nosedive shrivel dry_up thin_out slide_back axe claw_back fade dive skid inch_lower""",
    (1.0, 1.0): """
        boom blossom roar_back outshine""",
    (-1.0, -1.0): """
        suffer wobble stagnate sour tank bleed crater implode buckle disappoint sell_off
        drag""",
    (1.0, -1.0): """
        snowball kill overwhelm devastate inundate swamp ravage persist linger""",
    (0.5, 0.5): """
        reach achieve attain""",
    (-1.0, 1.0): """
        relieve soothe douse extinguish tame quell stem mitigate""",
    (0.0, 1.0): """
        clinch edge thrash rout trounce stun cruise dominate hammer seal triumph_over
        knock_out make_it_through come_through okay pave_the_way discover pull_off
        shake_hands hail wake_up eliminate dethrone""",
    (0.0, -1.0): """
        burst rupture stand_down step_down step_aside call_it_off flop unravel derail
        scupper torpedo thwart foil rebuff bar bow_out be_knocked_out lose_out withdraw_from
        pull_out_of drag_on malfunction bust rule_out drop_out defer freeze shut_down
        miss_out hold_up strike_out nix annul bin walk_away limp_off give_up hurt injure
        weigh_on""",
}
"""Verbs without an opposite of their own here."""

STEADY = """
    unchanged steady flat stable static sideways stagnant stagnate stagnates stagnated stand_pat
    stands_pat stood_pat on_hold no_change little_changed hold_steady holds_steady held_steady
    keep_steady plateau plateaus plateaued level_off levels_off levelled_off leveled_off
    same_level status_quo hold_rates holds_rates held_rates holding_rates hold_its leave_rates
    leaves_rates keeps_rates keep_rates kept_rates left_rates maintain maintains maintained
    maintaining pause pauses paused"""
"""Saying that nothing moves is a direction too."""

_IRREGULAR = {
    "rise": ("rose", "risen"), "fall": ("fell", "fallen"), "grow": ("grew", "grown"),
    "cut": ("cut", "cut"), "shed": ("shed", "shed"), "sink": ("sank", "sunk"),
    "shrink": ("shrank", "shrunk"), "lose": ("lost", "lost"), "win": ("won", "won"),
    "beat": ("beat", "beaten"), "lead": ("led", "led"), "spread": ("spread", "spread"),
    "burst": ("burst", "burst"), "break": ("broke", "broken"), "keep": ("kept", "kept"),
    "leave": ("left", "left"), "quit": ("quit", "quit"), "split": ("split", "split"),
    "begin": ("began", "begun"), "shut": ("shut", "shut"), "go": ("went", "gone"),
    "come": ("came", "come"), "give": ("gave", "given"), "tear": ("tore", "torn"),
    "overcome": ("overcame", "overcome"), "overtake": ("overtook", "overtaken"),
    "uphold": ("upheld", "upheld"), "withhold": ("withheld", "withheld"),
    "forbid": ("forbade", "forbidden"), "withdraw": ("withdrew", "withdrawn"),
    "hold": ("held", "held"), "put": ("put", "put"), "bring": ("brought", "brought"),
    "sell": ("sold", "sold"), "buy": ("bought", "bought"), "rebuild": ("rebuilt", "rebuilt"),
    "build": ("built", "built"), "run": ("ran", "run"), "drive": ("drove", "driven"),
    "strike": ("struck", "struck"), "throw": ("threw", "thrown"), "dig": ("dug", "dug"),
    "leap": ("leapt", "leapt"), "creep": ("crept", "crept"), "hit": ("hit", "hit"),
    "stick": ("stuck", "stuck"), "forgive": ("forgave", "forgiven"), "shoot": ("shot", "shot"),
    "slide": ("slid", "slid"), "free": ("freed", "freed"), "bleed": ("bled", "bled"),
    "be": ("was", "been"), "see": ("saw", "seen"), "knock": ("knocked", "knocked"),
    "oversee": ("oversaw", "overseen"), "undercut": ("undercut", "undercut"),
    "make": ("made", "made"), "shake": ("shook", "shaken"), "undershoot": ("undershot",) * 2,
    "freeze": ("froze", "frozen"), "reach": ("reached", "reached"),
    "show": ("showed", "shown"), "mend": ("mended", "mended"),
    "disinvest": ("disinvested", "disinvested"),
}  # fmt: skip
_DOUBLED = set(
    """
        slip drop trim top spur dip ban stop tip plan refer defer admit commit acquit scrap sag
        grip nod pat cap bar sign_off step scrub abet repel cancel travel signal fuel label
        total expel rebut tug knit flop""".split()
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A directional word or phrase in one of its forms."""

    level: float
    valence: float
    opposite: str | None
    is_verb: bool


Lexicon = dict[tuple[str, ...], Entry]
"""words of a phrase, lower case → entry"""


def build_lexicon() -> tuple[Lexicon, Lexicon]:
    """Verbs in all their forms, and plain words; of two meanings the one listed first stands."""
    verbs: Lexicon = {}
    plain: Lexicon = {}
    for lexicon, table, is_verb in ((verbs, VERBS, True), (plain, PLAIN, False)):
        for (level, valence), text in table.items():
            for pair in text.split():
                first, _, second = pair.partition(":")
                for a, b in zip(_forms(first, is_verb), _forms(second, is_verb), strict=True):
                    lexicon.setdefault(tuple(a.split()), Entry(level, valence, b, is_verb))
                    lexicon.setdefault(tuple(b.split()), Entry(-level, -valence, a, is_verb))
    for (level, valence), text in SINGLE.items():
        for verb in text.split():
            for form in _forms(verb, True):
                verbs.setdefault(tuple(form.split()), Entry(level, valence, None, True))
    for phrase in STEADY.split():
        verbs[tuple(phrase.split("_"))] = Entry(0.0, 0.0, None, True)
    return verbs, plain


def _forms(phrase: str, is_verb: bool) -> list[str]:
    """Base, third person, past, participle and -ing form of the phrase's first word."""
    head, *rest = phrase.split("_")
    heads = list(_verb_forms(head)) if is_verb else [head]
    return [" ".join([form, *rest]) for form in heads]


def _verb_forms(verb: str) -> Iterator[str]:
    yield verb
    if verb == "be":
        yield from ("is", "was", "been", "being")
        return
    yield _third_person(verb)
    regular = _regular_past(verb)
    past, participle = _IRREGULAR.get(verb, (regular, regular))
    yield past
    yield participle
    yield _ing(verb)


def _third_person(verb: str) -> str:
    if verb.endswith(("s", "x", "z", "ch", "sh", "o")):
        return verb + "es"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + "s"


def _regular_past(verb: str) -> str:
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ied"
    return (verb + verb[-1] if verb in _DOUBLED else verb) + "ed"


def _ing(verb: str) -> str:
    if verb in ("die", "lie", "tie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return verb[:-1] + "ing"
    doubled = verb in _DOUBLED or verb in {
        "cut", "shed", "win", "quit", "split", "begin", "shut", "put", "run", "hit", "dig",
        "forbid", "sit",
    }  # fmt: skip
    return (verb + verb[-1] if doubled else verb) + "ing"
