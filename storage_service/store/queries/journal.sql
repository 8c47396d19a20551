-- The newest seq. A journal of which all is pruned has it in its topics still.
-- name: last_seq
SELECT coalesce((SELECT max(seq) FROM journal), (SELECT max(seq) FROM topics), 0);

-- The oldest seq that is kept; the next one when none is. What was given up may have its rows for a while.
-- name: first_seq
SELECT max(
    coalesce((SELECT min(seq) FROM journal), (SELECT max(seq) FROM topics) + 1, 1),
    coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'pruned_seq'), 0) + 1
);

-- name: topics
SELECT topic, seq FROM topics WHERE topic >= :prefix AND topic < CAST(:beyond_prefix AS TEXT) AND seq > :after;

-- name: body
SELECT body FROM journal WHERE seq = :seq;

-- Events in the order of the journal, looking at each.
-- name: events
SELECT body FROM journal NOT INDEXED
WHERE seq > :after
    AND (:subject IS NULL OR subject = :subject OR (subject > :below AND subject < :beyond))
    AND (:topics IS NULL OR topic IN (SELECT value FROM json_each(:topics)))
ORDER BY seq LIMIT :rows;

-- One event, if it is of the subject.
-- name: event
SELECT body FROM journal
WHERE seq = :seq AND (:subject IS NULL OR subject = :subject OR (subject > :below AND subject < :beyond));

-- How many events there are of what is below a subject, counted up to :most.
-- name: below_count
SELECT count(*) FROM (
    SELECT 1 FROM journal INDEXED BY journal_by_subject WHERE subject > :below AND subject < :beyond LIMIT :most
);

-- The events of a subject and of what is below it, in the order of the journal. :most is -1, for all of them, where
-- topics are asked for too.
-- name: events_of_subject
SELECT journal.seq FROM (
    SELECT seq FROM (
        SELECT seq FROM journal INDEXED BY journal_by_subject WHERE subject = :subject AND seq > :after
        UNION ALL
        SELECT seq FROM journal INDEXED BY journal_by_subject
        WHERE subject > :below AND subject < :beyond AND seq > :after
    )
    ORDER BY seq LIMIT :most
) AS about CROSS JOIN journal ON journal.seq = about.seq
WHERE :topics IS NULL OR journal.topic IN (SELECT value FROM json_each(:topics))
ORDER BY journal.seq LIMIT :rows;
