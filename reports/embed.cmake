# Writes OUTPUT, a source file that defines the constants of assets.h.
#   cmake -DOUTPUT=assets.cc -DFOLDER=templates -DCHART=chart.min.js -P embed.cmake
# One script: its parts in the order in which they build on each other.
set(SCRIPT "${OUTPUT}.js")
file(WRITE "${SCRIPT}" "")
foreach(part numbers axes marks figure legend maps filters report)
  file(READ "${FOLDER}/${part}.js" text)
  file(APPEND "${SCRIPT}" "${text}")
endforeach()

set(assets
  kPageTemplate "${FOLDER}/report.html.mustache"
  kTableTemplate "${FOLDER}/table.html.mustache"
  kFigureTemplate "${FOLDER}/figure.html.mustache"
  kPlaceTemplate "${FOLDER}/place.html.mustache"
  kAnswerTemplate "${FOLDER}/answer.html.mustache"
  kMarkdownTemplate "${FOLDER}/report.md.mustache"
  kStyle "${FOLDER}/report.css"
  kScript "${SCRIPT}"
  kChartLibrary "${CHART}")

set(source "#include \"reports/assets.h\"\n\nnamespace saccade::reports {\n")
while(assets)
  list(POP_FRONT assets name path)
  file(READ "${path}" hex HEX)
  file(SHA256 "${path}" hash)
  # An array of bytes: compilers limit the length of a string literal.
  string(REGEX REPLACE "(....................)" "\\1\n" hex "${hex}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${hex}")
  string(APPEND source
    "static constexpr char ${name}Bytes[] = {\n${bytes}};\n"
    "extern const Asset ${name} = {\n"
    "    {${name}Bytes, sizeof ${name}Bytes},\n    \"${hash}\"};\n")
endwhile()
string(APPEND source "}  // namespace saccade::reports\n")
file(WRITE "${OUTPUT}" "${source}")
