"""Documents that people read: reports and the story of an execution, as html, pdf and Markdown."""
