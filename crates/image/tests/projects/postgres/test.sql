SELECT 1 / (CASE WHEN count(*) = 2 THEN 1 ELSE 0 END) AS passed FROM people;
