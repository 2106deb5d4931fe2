// What must hold between the nodes of one configuration file, and the defaults that depend on them.
#pragma once

#include "io/base/result.h"
#include "tools/configuration.h"
#include "tools/configuration_text.h"

namespace lockstep::tools {

// Fills in each node's default nbd address, then refuses: addresses of the wrong form, two nodes with one address,
// two nodes on one host with a path or nbd address in common, a node whose disk is its metadata, and plain TCP to
// other hosts without 'insecure = yes'.
Status complete_and_check_nodes(ResourceConfiguration& configuration, const ConfigurationLines& lines);

}  // namespace lockstep::tools
