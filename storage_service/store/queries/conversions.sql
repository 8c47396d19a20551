-- name: conversion
SELECT record FROM conversions WHERE conversion_id = :conversion_id;

-- name: conversion_record
SELECT record FROM conversions WHERE n = :n;

-- Conversions before one of them, newest first, by whichever filter narrows most.
-- name: conversions_of_acq
SELECT '', n FROM conversions INDEXED BY conversions_by_acq
WHERE acq_id = :acq_id AND n < :n AND (:state IS NULL OR state = :state)
ORDER BY n DESC LIMIT :rows;

-- name: conversions_in_state
SELECT '', n FROM conversions INDEXED BY conversions_by_state
WHERE state = :state AND n < :n
ORDER BY n DESC LIMIT :rows;

-- name: conversions
SELECT '', n FROM conversions NOT INDEXED WHERE n < :n ORDER BY n DESC LIMIT :rows;

-- name: conversions_by_state
SELECT state, count(*) FROM conversions INDEXED BY conversions_by_state GROUP BY state;
