// Catch2 2's one header, for a host that has Catch2 3.
#pragma once

#include <catch2/catch_all.hpp>

using Catch::Approx;
