CREATE VIRTUAL TABLE search USING fts5 (
  title, instructions, result, content = '', contentless_delete = 1, tokenize = 'unicode61', prefix = '3'
);
