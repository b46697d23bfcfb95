// Pages to HTML and Markdown, through the templates.
#ifndef SACCADE_REPORTS_RENDER_H_
#define SACCADE_REPORTS_RENDER_H_

#include <string>

#include "reports/page.h"
#include "saccade/status.h"

namespace saccade::reports {

/// One file that needs no network and allows itself none: a policy names its
/// scripts and style by their hashes. kInvalid when a template is malformed.
Result<std::string> RenderHtml(const Page& page);

/// The same in Markdown, without figures and without the longest tables.
Result<std::string> RenderMarkdown(const Page& page);

}  // namespace saccade::reports

#endif  // SACCADE_REPORTS_RENDER_H_
