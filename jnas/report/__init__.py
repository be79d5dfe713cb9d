"""Pictures and pages, from the files that runs leave in a folder.

  records     reads the folder of a run, whatever state it is in
  headline    the number by which a run is told, and how it is written
  parts       what a page is made of: tables, figures, text
  page        parts to HTML, through the files in `templates/`
  chart       curves, bars and points as SVG
  layout      where the nodes and edges of a cell stand
  draw        cells and architecture weights as SVG
  sections    how a run went          findings    what it found
  topology    searches that prune     retraining  what a network mistakes
  comparison  several runs, by algorithm and seed
  pages       the page on a run, or on several

Nothing here imports more of jnas than genotypes: what an algorithm and its
metrics are called stands in the run's own files.
"""
