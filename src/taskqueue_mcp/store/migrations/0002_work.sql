ALTER TABLE attempts ADD COLUMN verdict TEXT;
