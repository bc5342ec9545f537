/*
 * Writers, collectors and readers of one store; docs/format.md, "Order of commit", has the writers' part.
 *
 * What stands in one atomic block is one transaction of the index, or one operation on one object. A
 * process that crashes forgets what it knew and begins anew, as another in its place would. Clocks
 * are not trusted: no step of a collector waits for a grace period. README.md tells the rest.
 *
 * Sets of digests are bit masks. DIGESTS is 1 or 2, WRITERS 1 or 2, READERS 0 or 1, PACKS 2 to 4.
 */

#ifndef WRITERS
#define WRITERS 2
#endif
#ifndef COLLECTORS
#define COLLECTORS 2
#endif
#ifndef READERS
#define READERS 0
#endif
#ifndef DIGESTS
#define DIGESTS 1
#endif
#ifndef PACKS
#define PACKS 3
#endif

#define NOWHERE 255

/* The row of a pack: none yet, its three states, and deleted. */
mtype = { NEVER, PENDING, LIVE, DEAD, GONE };

mtype row[PACKS] = NEVER;
bool present[PACKS];       /* is its object in storage? */
bool late[PACKS];          /* was it published after its row was declared dead? */
byte named;                /* names given to packs; a name never comes back, thanks to the nonce */
byte place[2] = NOWHERE;   /* a digest's row: the pack that it points into */
byte condemned;            /* digests whose row is condemned */
byte references[2];        /* digests that each writer has committed and nobody has deleted since */
byte reading;              /* the digest that is being read, while a reference to it stays */

#define KNOWN ((place[0] != NOWHERE) | ((place[1] != NOWHERE) << 1))
#define REFERENCED (references[0] | references[1])
#define HAS_ROWS(p) (place[0] == (p) || place[1] == (p))
#define UNUSED(p) (row[p] == PENDING || (row[p] == LIVE && !HAS_ROWS(p)))

#ifdef NO_CRASHES /* so that a process that can't go on is found */
#define CRASH(forget)
#else
#define CRASH(forget) :: atomic { true -> forget(); goto end_idle }
#endif

#if DIGESTS > 1
#define EACH_DIGEST(OPTION) OPTION(0) OPTION(1)
#else
#define EACH_DIGEST(OPTION) OPTION(0)
#endif

#if PACKS > 3
#define EACH_PACK(OPTION) OPTION(0) OPTION(1) OPTION(2) OPTION(3)
#elif PACKS > 2
#define EACH_PACK(OPTION) OPTION(0) OPTION(1) OPTION(2)
#else
#define EACH_PACK(OPTION) OPTION(0) OPTION(1)
#endif

/* What must hold after every step. */

inline check_digest(d)
{
    assert(!((REFERENCED >> d) & 1) || place[d] != NOWHERE);      /* nothing committed is lost */
    assert(!((REFERENCED >> d) & 1) || present[place[d]]);        /* nothing dangles */
#ifdef STRICT /* holds for rows that nothing refers to as well */
    assert(place[d] == NOWHERE || (row[place[d]] == LIVE && present[place[d]]))
#endif
}

inline check_pack(p)
{
    /* Every object is in storage for a row, or has one by which a collector finds it: live without
     * rows, pending or dead. Only what was published too late has none; it is listed and reported. */
    assert(!present[p] || row[p] != GONE || late[p])
}

inline check()
{
    check_digest(0); check_digest(1);
#ifndef NO_PENDING
    check_pack(0); check_pack(1);
#if PACKS > 2
    check_pack(2);
#endif
#if PACKS > 3
    check_pack(3)
#endif
#endif
}

/* Names of packs. */

#ifdef NAMES_RETURN /* as if a name were the digest of what is in the pack, without a nonce */
#define CAN_NAME (named < PACKS || row[0] == GONE)
#else
#define CAN_NAME (named < PACKS)
#endif

inline name_pack(p)
{
    if
#ifdef NAMES_RETURN
    :: row[0] == GONE -> p = 0
    :: else -> p = named; named++
#else
    :: true -> p = named; named++
#endif
    fi
}

inline publish(p)
{
    late[p] = (row[p] == DEAD || row[p] == GONE);
    present[p] = true
}

/* Writers. */

#if defined(NO_PENDING) || defined(CALLERS_TRANSACTION)
#define UNREGISTERED
#define BEFORE_COMMIT NEVER
#else
#define BEFORE_COMMIT PENDING
#endif

#ifdef NO_PENDING_CHECK
#define STILL_PENDING true
#else
#define STILL_PENDING (pack == NOWHERE || row[pack] == BEFORE_COMMIT)
#endif

#ifdef NO_RECHECK /* no foreign key, and nobody looks again */
#define ALL_THERE true
#else
#define ALL_THERE ((needs & ~(KNOWN | missing)) == 0)
#endif

#define MAY_NEED(digests) (((digests) & ~KNOWN) == 0 || CAN_NAME)

#define INSERT_ROW(d) \
    if \
    :: ((missing >> d) & 1) && place[d] == NOWHERE -> place[d] = pack \
    :: else /* another writer was first: its row is kept */ \
    fi;

inline forget_writer() { needs = 0; missing = 0; pack = NOWHERE }

proctype Writer(byte me)
{
    byte needs, missing, pack = NOWHERE;

end_idle:
    atomic { /* a transaction: which of the digests have a row? */
        if
        :: MAY_NEED(1) -> needs = 1
#if DIGESTS > 1
        :: MAY_NEED(2) -> needs = 2
        :: MAY_NEED(3) -> needs = 3
#endif
        fi;
        missing = needs & ~KNOWN;
        if
        :: missing == 0 -> goto commit
        :: else
        fi
    }

    if
    :: atomic { CAN_NAME -> name_pack(pack);
#ifdef UNREGISTERED
        present[pack] = true /* published, and known to nobody */
#else
        row[pack] = PENDING /* a transaction */
#endif
        }
    :: atomic { !CAN_NAME -> forget_writer(); goto end_idle }
    CRASH(forget_writer)
    fi;

#if !defined(UNREGISTERED) && !defined(ROWS_FIRST)
    if
    :: d_step { true -> publish(pack); check() }
    CRASH(forget_writer)
    fi;
#endif

commit:
    if
    :: atomic { STILL_PENDING && ALL_THERE ->
        if
        :: pack != NOWHERE -> row[pack] = LIVE; EACH_DIGEST(INSERT_ROW)
        :: else
        fi;
#ifndef NO_CLEAR
        condemned = condemned & ~needs;
#endif
        references[me] = references[me] | needs;
        check();
#ifndef ROWS_FIRST
        forget_writer();
        goto end_idle
#endif
        }
    :: atomic { !(STILL_PENDING && ALL_THERE) -> forget_writer(); goto end_idle } /* start again */
    CRASH(forget_writer)
    fi;

#ifdef ROWS_FIRST
    if
    :: atomic { pack != NOWHERE -> publish(pack); forget_writer(); goto end_idle }
    :: atomic { pack == NOWHERE -> forget_writer(); goto end_idle }
    CRASH(forget_writer)
    fi
#endif
}

/* Runs are deleted, whoever made them. */

#define DELETE_REFERENCE(d) \
    :: atomic { ((references[0] >> d) & 1) -> \
        references[0] = references[0] & ~(1 << d); reading = reading & REFERENCED } \
    :: atomic { ((references[1] >> d) & 1) -> \
        references[1] = references[1] & ~(1 << d); reading = reading & REFERENCED }

proctype Deleter()
{
end_idle:
    do
    EACH_DIGEST(DELETE_REFERENCE)
    od
}

/* What is one transaction of a collector, whichever begins it. */

#define CONDEMN(d) \
    :: d_step { place[d] != NOWHERE && !(((condemned | REFERENCED) >> d) & 1) -> \
        condemned = condemned | (1 << d) }

#ifdef FLAG_SWEEP /* believes the flag */
#define SWEEPABLE(d) ((condemned >> d) & 1)
#else
#define SWEEPABLE(d) (((condemned & ~REFERENCED) >> d) & 1)
#endif

#define SWEEP(d) \
    :: d_step { place[d] != NOWHERE && SWEEPABLE(d) -> \
        place[d] = NOWHERE; condemned = condemned & ~(1 << d); check() }

/* Without a grace period: in one step, condemned or not. Only the look at references guards it. */

#ifdef EARLIER_LOOK /* believes what an earlier transaction saw of references */
#define SWEEPABLE_AT_ONCE(d) ((unneeded >> d) & 1)
#else
#define SWEEPABLE_AT_ONCE(d) (!((REFERENCED >> d) & 1))
#endif

#define LOOK(d) \
    :: d_step { place[d] != NOWHERE && !(((unneeded | REFERENCED) >> d) & 1) -> \
        unneeded = unneeded | (1 << d) }

#define SWEEP_AT_ONCE(d) \
    :: d_step { place[d] != NOWHERE && SWEEPABLE_AT_ONCE(d) -> \
        place[d] = NOWHERE; condemned = condemned & ~(1 << d); check() }

#define DECLARE_DEAD(p) \
    :: d_step { UNUSED(p) -> row[p] = DEAD; check() }

proctype Sweeper()
{
#ifdef EARLIER_LOOK
    byte unneeded;
#endif

end_idle:
    do
    EACH_DIGEST(CONDEMN)
    EACH_DIGEST(SWEEP)
    EACH_DIGEST(SWEEP_AT_ONCE)
#ifdef EARLIER_LOOK
    EACH_DIGEST(LOOK)
#endif
#ifndef OBJECT_FIRST
    EACH_PACK(DECLARE_DEAD)
#endif
    od
}

/* What takes a collector several steps: deleting a dead pack, and compacting a live one. */

#if defined(OBJECT_FIRST)
#define DELETABLE(p) (row[p] == DEAD || UNUSED(p))
#elif defined(NO_PENDING)
#define DELETABLE(p) (row[p] == DEAD || (present[p] && (row[p] == NEVER || row[p] == GONE)))
#else
#define DELETABLE(p) (row[p] == DEAD)
#endif

#define CHOOSE_DEAD(p) \
    :: atomic { DELETABLE(p) -> pack = p; goto delete }

#define CHOOSE_OLD(p) \
    :: atomic { row[p] == LIVE && HAS_ROWS(p) && CAN_NAME -> \
        pack = p; moving = (place[0] == p) | ((place[1] == p) << 1); goto compact }

#define MOVE_ROW(d) \
    if \
    :: ((moving >> d) & 1) && place[d] == pack -> place[d] = into \
    :: else /* it was swept, or moved by another collector */ \
    fi;

#ifdef MOVE_UNCHECKED
#define MAY_MOVE true
#else
#define MAY_MOVE (row[into] == PENDING)
#endif

inline forget_collector() { pack = NOWHERE; into = NOWHERE; moving = 0 }

proctype Collector()
{
    byte pack = NOWHERE, into = NOWHERE, moving;

end_idle:
    if
    EACH_PACK(CHOOSE_DEAD)
    EACH_PACK(CHOOSE_OLD)
    fi;

delete:
    if
    :: d_step { true -> present[pack] = false; check() }
    CRASH(forget_collector)
    fi;
    if
    :: atomic { true -> /* a transaction */
        if
        :: row[pack] == DEAD -> row[pack] = GONE
#ifdef OBJECT_FIRST
        :: UNUSED(pack) -> row[pack] = DEAD
#endif
        :: else
        fi;
        check();
        forget_collector();
        goto end_idle }
    CRASH(forget_collector)
    fi;

compact:
    if
    :: atomic { CAN_NAME -> name_pack(into); row[into] = PENDING } /* a transaction */
    :: atomic { !CAN_NAME -> forget_collector(); goto end_idle }
    CRASH(forget_collector)
    fi;
    if
    :: d_step { present[pack] -> publish(into); check() }
    :: atomic { !present[pack] -> forget_collector(); goto end_idle } /* another collector was faster */
    CRASH(forget_collector)
    fi;
#ifdef DELETE_BEFORE_MOVE
    if
    :: d_step { true -> present[pack] = false; check() }
    CRASH(forget_collector)
    fi;
#endif
    if
    :: atomic { MAY_MOVE -> /* a transaction */
        row[into] = LIVE;
        EACH_DIGEST(MOVE_ROW)
        check();
        forget_collector();
        goto end_idle }
    :: atomic { !MAY_MOVE -> forget_collector(); goto end_idle }
    CRASH(forget_collector)
    fi
}

/* A reader looks a location up and reads there; if the object is gone it looks the location up
 * again, and finds another. It is promised nothing once the last reference was deleted. */

#define LOCATE(d) \
    :: atomic { ((REFERENCED >> d) & 1) -> reading = 1 << d; digest = d; pack = place[d] }

inline forget_reader()
{
    reading = 0; digest = 0; pack = NOWHERE;
#if defined(ONE_LOOK) || defined(TWO_LOOKS)
    looks = 0
#endif
}

proctype Reader()
{
    byte digest, pack = NOWHERE;
#if defined(ONE_LOOK) || defined(TWO_LOOKS)
    byte looks = 0;
#endif

end_idle:
    if
    EACH_DIGEST(LOCATE)
    fi;
read:
    if
    :: atomic { !reading || present[pack] -> forget_reader(); goto end_idle }
    :: atomic { reading && !present[pack] ->
#ifdef ONE_LOOK
        assert(false);
#endif
#ifdef TWO_LOOKS
        looks++;
        assert(looks < 2);
#endif
        assert(place[digest] != pack);
        pack = place[digest];
        goto read }
    CRASH(forget_reader)
    fi
}

init
{
    atomic {
        run Writer(0);
#if WRITERS > 1
        run Writer(1);
#endif
        run Deleter();
        run Sweeper();
        run Collector();
#if COLLECTORS > 1
        run Collector();
#endif
#if READERS > 0
        run Reader()
#endif
    }
}
